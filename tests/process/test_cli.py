"""The commands as people type them, against the real program."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterd import __version__
from clusterd.config.cpus import available_cpus
from clusterd.core.exits import Exit
from tests.support.server import LIMIT, ROOT, Server, running, serving

CLUSTERD = [sys.executable, "-m", "clusterd.cli.main"]
Done = subprocess.CompletedProcess[str]


def environ(**more: str) -> dict[str, str]:
    """Ours without what could lead a command to another cluster."""
    strange = ("CLUSTERD_", "XDG_RUNTIME", "RUNTIME_DIR", "WEB_CONC")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(strange)}
    return {**kept, "PYTHONPATH": str(ROOT), **more}  # a runtime directory is to be named


def clusterd(place: Path, *args: str, **more: str) -> Done:
    """A command, run to its end."""
    return subprocess.run(
        [*CLUSTERD, *args],
        cwd=place,
        env=environ(**{"PWD": str(place), "CLUSTERD_RUNTIME_DIR": str(place / "run"), **more}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def at(server: Server, *args: str) -> Done:
    """A command to a running cluster."""
    return clusterd(server.place, *args, "--runtime-dir", str(server.runtime))


def test_the_demo_runs_on_every_core_and_tells_who_answers(tmp_path: Path) -> None:
    """The README's first line, but for the port."""
    with running(tmp_path, "clusterd.demo:app", WEB_CONCURRENCY="") as server:
        server.ready()
        workers = {worker["pid"]: worker["slot"] for worker in server.workers()}
        assert len(workers) == available_cpus()
        assert "clusterd demo" in server.get("/")
        who = json.loads(server.get("/who"))
        assert who == {"pid": who["pid"], "slot": workers[who["pid"]], "generation": 1}
        assert json.loads(server.get("/slow?seconds=0"))["pid"] in workers
        assert server.stop() == Exit.OK


def test_the_package_is_a_program_as_well(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clusterd", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert done.stdout == f"clusterd {__version__}\n"


def test_version_is_told(tmp_path: Path) -> None:
    assert clusterd(tmp_path, "--version").stdout == f"clusterd {__version__}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-w", "none"], "clusterd: --workers: 'none' is not allowed; allowed: auto, or 1 to 480"),
        (["-b", "x"], "clusterd: --bind: 'x' is no address: the port is missing"),
        (["--bnid", "x"], "clusterd run: no such option '--bnid'"),
        (["--config", "none.toml"], "clusterd: "),
        (["--log-file", "none/log"], "clusterd: --log-file: "),
        (["-b", "unix:" + "x" * 120], "clusterd: --bind: the path of "),
        (["--runtime-dir", "x" * 120], "clusterd: runtime_dir: the control socket's path "),
    ],
)
def test_a_wrong_setting_is_exit_4_and_one_line(args: list[str], said: str, tmp_path: Path) -> None:
    done = clusterd(tmp_path, "run", "clusterd.demo:app", *args)
    assert done.returncode == Exit.CONFIG, done.stderr
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_wrong_file_or_variable_is_exit_4_too(tmp_path: Path) -> None:
    done = clusterd(tmp_path, "run", "clusterd.demo:app", CLUSTERD_BACKLOG="many")
    assert (done.returncode, done.stderr.count("\n")) == (Exit.CONFIG, 1)
    assert done.stderr.startswith("clusterd: CLUSTERD_BACKLOG: 'many' is not allowed; allowed: ")
    (tmp_path / "clusterd.toml").write_text("worker = 2\n")
    done = clusterd(tmp_path, "run", "clusterd.demo:app")
    assert done.returncode == Exit.CONFIG
    assert done.stderr == (
        "clusterd: clusterd.toml: 'worker' is no setting; did you mean workers?\n"
    )


def test_an_address_in_use_is_exit_5_and_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = clusterd(tmp_path, "run", "clusterd.demo:app", "-b", address)
    assert done.returncode == Exit.BIND, done.stderr
    assert address in done.stderr.splitlines()[0]
    assert "in use" in done.stderr
    assert str(os.getpid()) in done.stderr, "who holds it can be known here: it is this process"
    assert "Traceback" not in done.stderr


def test_an_app_that_cannot_be_imported_is_exit_3_with_its_own_frames_only(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import stock\n")
    (tmp_path / "stock.py").write_text("def count():\n    return 1 / 0\n\ncount()\n")
    done = clusterd(tmp_path, "run", "shop", "-b", "127.0.0.1:0", "--log-format", "text")
    assert done.returncode == Exit.NEVER_READY, done.stderr
    lines = done.stderr.splitlines()
    (said,) = [at for at, line in enumerate(lines) if "gave up: import failed: " in line]
    assert lines[said].endswith("importing shop failed: ZeroDivisionError: division by zero")
    assert lines[said + 1] == "    Traceback (most recent call last):"
    assert "stock.py" in "".join(lines[said:])
    assert lines[-2] == "    ZeroDivisionError: division by zero", "nothing is said after it but:"
    assert lines[-1].startswith("    Repair it and start again")
    assert done.stderr.count("importing shop failed") == 1
    assert "\\n" not in done.stderr
    assert "importlib" not in done.stderr
    assert "clusterd/zygote" not in done.stderr


@pytest.mark.parametrize("module", ["nowhere:app", "shop:other"])
def test_a_module_or_attribute_that_is_not_there_is_exit_3(module: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("async def app(scope, receive, send): ...\n")
    done = clusterd(tmp_path, "run", module, "-b", "127.0.0.1:0", "--log-format", "text")
    assert done.returncode == Exit.NEVER_READY, done.stderr
    assert module.split(":")[module.startswith("shop")] in done.stderr
    assert "\\n" not in done.stderr
    remedy = "Name what it calls" if module.startswith("shop") else "Modules are searched in"
    assert done.stderr.splitlines()[-1].startswith(f"    {remedy}")


@pytest.mark.parametrize("name", ["stop", "reload", "status", "events", "dump"])
def test_a_command_says_plainly_that_nothing_runs(name: str, tmp_path: Path) -> None:
    done = clusterd(tmp_path, name, "--runtime-dir", str(tmp_path))
    assert done.returncode == Exit.FAILED
    where = f"there is no control socket in {tmp_path}"
    assert done.stderr.splitlines()[0] == f"clusterd: no cluster runs: {where}"


def test_every_command_steers_a_running_cluster(tmp_path: Path) -> None:
    """One cluster, from its first status to its stop."""
    log = tmp_path / "log"
    with serving(tmp_path, "clusterd.demo:app", "--log-file", str(log)) as server:
        assert "clusterd.demo:app is serving, 2 of 2 ready" in at(server, "status").stdout
        assert json.loads(at(server, "status", "--json").stdout)["generation"] == 1
        memory = json.loads(at(server, "status", "--json", "--memory").stdout)["memory"]
        assert [one["name"] for one in memory["processes"]] == [
            "master",
            "zygote g1",
            "worker 0 g1",
            "worker 1 g1",
        ]
        assert all(one["pss"] >= one["uss"] > 0 for one in memory["processes"])
        assert memory["unread"] == 0
        assert "MEMORY OF" in at(server, "status", "--memory").stdout
        assert at(server, "scale", "+1").stdout == "3 workers wanted\n"
        server.event("readied", slot=2)
        assert at(server, "scale", "2").stdout == "2 workers wanted\n"
        server.event("exited", slot=2)
        assert at(server, "reload", "--wait").stdout == "generation 2 serves\n"
        assert at(server, "rollback", "--wait").stdout == "generation 1 serves\n"
        assert at(server, "pause").returncode == Exit.OK
        server.event("paused")
        assert at(server, "resume").returncode == Exit.OK
        assert {server.event("readied")["slot"] for _ in range(2)} == {0, 1}  # in any order
        assert "worker=1 gen=1 pid=" in at(server, "dump").stdout
        log.rename(tmp_path / "log.1")
        assert at(server, "reopen").stdout == "log file reopened\n"
        assert log.exists()
        kinds = [
            json.loads(line)["kind"]
            for line in at(server, "events", "--json").stdout.split("\n")
            if line
        ]
        assert {"started", "ready", "scaled", "rollout_finished", "paused", "dumped"} <= set(kinds)
        assert at(server, "stop").stdout == "stopped\n"
        assert server.wait() == Exit.OK


def test_reload_wait_tells_why_it_failed_and_the_old_code_serves_on(tmp_path: Path) -> None:
    app = tmp_path / "shop.py"
    app.write_text("from clusterd.demo import app\n")
    with serving(tmp_path, "shop:app", "--app-dir", str(tmp_path)) as server:
        app.write_text("from clusterd.demo import app\nraise RuntimeError('not today')\n")
        done = at(server, "reload", "--wait")
        assert done.returncode == Exit.FAILED
        assert done.stderr.startswith("clusterd: generation 2 did not come up: ")
        assert "RuntimeError: not today" in done.stderr
        assert "generation 1 serves on" in done.stderr
        assert json.loads(server.get("/who"))["generation"] == 1
        told = "the last reload failed: generation 2 did not come up: "
        assert told in at(server, "status").stdout
        assert json.loads(at(server, "status", "--json").stdout)["failed_reload"]
        app.write_text("from clusterd.demo import app\n")
        assert at(server, "reload", "--wait").returncode == Exit.OK
        assert told not in at(server, "status").stdout


def test_reload_refuses_wrong_settings_and_names_them(tmp_path: Path) -> None:
    with serving(tmp_path, "clusterd.demo:app") as server:
        (tmp_path / "clusterd.toml").write_text("workers = 'some'\n")
        done = at(server, "reload", "--wait")
        assert done.returncode == Exit.FAILED
        assert done.stderr.startswith("clusterd: clusterd.toml workers: 'some' is not allowed")
        (tmp_path / "clusterd.toml").write_text("keep_alvie = 1\n")
        done = at(server, "reload")
        assert done.returncode == Exit.FAILED
        assert "'keep_alvie' is no setting; did you mean keep_alive?" in done.stderr


def test_at_a_terminal_reload_wait_shows_what_happens(tmp_path: Path) -> None:
    """The events of the rollout, on the terminal, while standard output stays as it is."""
    with serving(tmp_path, "clusterd.demo:app") as server:
        ours, theirs = pty.openpty()
        args = ["reload", "--wait", "--runtime-dir", str(server.runtime)]
        done = subprocess.run(
            [*CLUSTERD, *args],
            env=environ(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=LIMIT,
            check=False,
        )
        os.close(theirs)
        assert done.stdout == b"generation 2 serves\n"
        assert "canary_readied" in everything(ours)


def test_at_a_terminal_the_start_says_what_is_under_way(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*CLUSTERD, "run", "clusterd.demo:app", "-b", "127.0.0.1:0", "-w", "1"],
        env=environ(PWD=str(tmp_path), CLUSTERD_RUNTIME_DIR=str(tmp_path)),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        text = until(ours, " ready on http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        text += everything(ours)
        assert process.wait(LIMIT) == Exit.OK
    assert text.startswith(f"clusterd {__version__}: importing clusterd.demo:app for 1 worker on ")
    assert "stopped code=0" in text


def test_events_follow_ends_when_the_cluster_does_and_quietly_on_ctrl_c(tmp_path: Path) -> None:
    with serving(tmp_path, "clusterd.demo:app", workers=1) as server:
        args = ["events", "--follow", "--json", "--runtime-dir", str(server.runtime)]
        followers = [following(tmp_path, args) for _ in range(2)]
        for follower in followers:
            assert follower.stdout is not None
            assert json.loads(follower.stdout.readline())["kind"] == "started"
        followers[0].send_signal(signal.SIGINT)
        assert followers[0].wait(LIMIT) == 130
        assert server.stop() == Exit.OK
        out, _ = followers[1].communicate(timeout=LIMIT)
        assert json.loads(out.splitlines()[-1])["kind"] == "stopped"
        assert followers[1].returncode == Exit.OK
        followers[0].communicate()


def following(place: Path, args: list[str]) -> subprocess.Popen[bytes]:
    """A command that goes on."""
    return subprocess.Popen(
        [*CLUSTERD, *args],
        cwd=place,
        env=environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def everything(terminal: int) -> str:
    """What was written to a terminal until its last writer left, which reads as EIO."""
    return until(terminal, None)


def until(terminal: int, word: str | None) -> str:
    """What was written to a terminal, up to a word or the end."""
    text = b""
    while word is None or word.encode() not in text:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        text += data
    if word is None:
        os.close(terminal)
    return text.decode().replace("\r\n", "\n")


def test_two_clusters_live_side_by_side_by_name(tmp_path: Path) -> None:
    """A second one of the same name is refused, one of another name is not."""
    with serving(tmp_path, "clusterd.demo:app", workers=1) as server:
        args: Any = ["-b", "127.0.0.1:0", "--runtime-dir", str(server.runtime), "-w", "1"]
        done = clusterd(tmp_path, "run", "clusterd.demo:app", *args)
        assert done.returncode == Exit.BIND, done.stderr
        done = at(server, "status", "--name", "other")
        assert done.returncode == Exit.FAILED
        assert "say --name clusterd" in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_check_and_run_agree_on_an_address_in_use(host: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("clusterd.demo:app", "-b", f"{host}:{taken.getsockname()[1]}")
        ran, checked = clusterd(tmp_path, "run", *words), clusterd(tmp_path, "check", *words)
    assert (ran.returncode, checked.returncode) == (Exit.BIND, Exit.FAILED)
    said = ran.stderr.splitlines()[0].removeprefix("clusterd: ")
    assert f"(pid {os.getpid()})" in said
    assert said in checked.stdout


def test_check_says_that_a_second_cluster_of_this_name_would_be_refused(tmp_path: Path) -> None:
    with serving(tmp_path, "clusterd.demo:app", workers=1) as server:
        host, port = server.address
        done = at(server, "check", "clusterd.demo:app", "-b", f"{host}:{port}")
        assert "belongs to the running cluster" in done.stdout
        assert "a cluster of this name runs there, so 'clusterd run' would end" in done.stdout
        ran = at(server, "run", "clusterd.demo:app", "-b", f"{host}:{port}")
        assert ran.returncode == Exit.BIND
        assert f"in use by the cluster 'clusterd' (clusterd.demo:app, pid {server.pid})" in (
            ran.stderr
        )
        named = ("-b", "127.0.0.1:0", "--name", "clusterd")
        ran = at(server, "run", "clusterd.demo:app", *named)
        assert "a cluster of this name runs already: the cluster 'clusterd' (" in ran.stderr
