"""Workers that are nobody and have limits, under a master that is root; asked of the kernel."""

import contextlib
import json
import os
import pwd
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.exits import Exit
from clusterd.ipc.client import Refused
from tests.support.authority import Authority, secured
from tests.support.rights import opening
from tests.support.server import LIMIT, ROOT, Server, running, serving

superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
LIMITS = ("--nice", "4", "--umask", "027", "--limit-nofile", "512", "--limit-core", "0")


@contextlib.contextmanager
def serving_as_nobody(
    place: Path, *options: str, workers: int = 2, typed: tuple[str, ...] = ("--user", "nobody")
) -> Iterator[Server]:
    wrapper = opening()
    if wrapper is None:
        pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
    more = (*typed, "-w", str(workers), "--min-ready", "0", *options)
    with tempfile.TemporaryDirectory(prefix="clusterd-rights-") as folder:
        os.chmod(folder, 0o777)
        file = str(Path(folder, "file"))
        with running(place, "rights:app", *more, wrapper=wrapper, RIGHTS_FILE=file) as server:
            server.ready()
            yield server
            if server.process.poll() is None:
                assert server.stop() == 0, server.history()


def status(pid: int) -> dict[str, list[str]]:
    """/proc/<pid>/status, see proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.split() for key, value in (line.split(":", 1) for line in lines)}


def capabilities(pid: int) -> list[int]:
    """Return all sets of a process."""
    names = ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")
    return [int(status(pid)[name][0], 16) for name in names]


def unprivileged_port() -> int:
    """A free port below 1024."""
    for port in range(1023, 600, -1):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port below 1024 is free")


def judge(pid: int, slot: int | None) -> None:
    """A zygote (slot None) or a worker is nobody, and limited."""
    nobody, found = pwd.getpwnam("nobody"), status(pid)
    assert found["Uid"] == [str(nobody.pw_uid)] * 4
    assert found["Gid"] == [str(nobody.pw_gid)] * 4
    assert set(found["Groups"]) == {str(nobody.pw_gid)}
    assert capabilities(pid) == [0] * 5
    assert found["NoNewPrivs"] == ["1"]  # by default, where root gives up its rights
    assert found["Umask"] == ["0027"]
    cpus = sorted(os.sched_getaffinity(0))
    mine = cpus if slot is None else [cpus[slot % len(cpus)]]
    assert sorted(os.sched_getaffinity(pid)) == mine
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 4
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert [line.split()[3:5] for line in limits.splitlines() if "Max open files" in line] == [
        ["512", "512"]
    ]


def judge_all(server: Server) -> None:
    for worker in server.workers():
        if worker["phase"] == "ready":  # of others who leave there may be nothing to see
            judge(worker["pid"], worker["slot"])
    for zygote in server.ask("status")["zygotes"]:
        judge(zygote["pid"], None)
    assert status(server.pid)["Uid"] == ["0"] * 4
    assert os.getpriority(os.PRIO_PROCESS, server.pid) == os.getpriority(os.PRIO_PROCESS, 0)


@superuser
def test_workers_are_nobody_from_before_the_import_and_stay_it(tmp_path: Path) -> None:
    port = unprivileged_port()
    bind = ("-b", f"127.0.0.1:{port}", "--pin")
    with serving_as_nobody(tmp_path, *LIMITS, *bind, workers=3) as server:
        nobody = pwd.getpwnam("nobody")
        told = json.loads(server.get())
        assert told["import"]["ids"] == [nobody.pw_uid] * 3 + [nobody.pw_gid] * 3
        assert set(told["import"]["groups"]) == {nobody.pw_gid}
        assert (told["import"]["home"], told["import"]["nofile"]) == (nobody.pw_dir, [512, 512])
        assert told["now"]["ids"] == told["import"]["ids"]
        judge_all(server)

        victim = server.workers()[0]
        os.kill(victim["pid"], signal.SIGKILL)
        server.event("readied", slot=victim["slot"])
        judge_all(server)

        server.signal(signal.SIGHUP)
        server.event("rollout_finished")
        judge_all(server)
        json.loads(server.get("/write"))
        [folder] = Path("/tmp").glob("clusterd-rights-*/file")
        about = folder.stat()
        assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (nobody.pw_uid, 0o640)


@superuser
def test_the_log_is_reopened_by_root_for_workers_that_may_not(tmp_path: Path) -> None:
    """And a worker that imports for itself gave up its rights before it did."""
    log = tmp_path / "log"
    options = ("--log-file", str(log), "--access-log", "--preload", "never")
    with serving_as_nobody(tmp_path, *options, workers=1) as server:
        assert json.loads(server.get())["import"]["ids"][0] == pwd.getpwnam("nobody").pw_uid
        log.rename(tmp_path / "log.1")
        server.ask("reopen")
        worker = server.workers()[0]["pid"]
        while str(log) not in files_of(worker):
            pass  # the order is on its way to it
        server.get("/after")
    assert "/after" in log.read_text()


@superuser
def test_capabilities_of_a_master_that_is_not_root_stay_with_it(tmp_path: Path) -> None:
    """As systemd's AmbientCapabilities= gives them, to bind a port below 1024."""
    port = unprivileged_port()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="clusterd-rights-"))
        os.chmod(folder, 0o755)
        Path(folder, "clusterd.toml").write_text(
            '[group.clock]\ncommand = ["sleep", "1000"]\ndirectory = "/"\nready_after = 0\n'
        )
        options = ("--config", f"{folder}/clusterd.toml", "-w", "1", "--min-ready", "0")
        bind, ambient = f"127.0.0.1:{port}", "+net_bind_service"
        server = Server(
            tmp_path, "rights:app", *options, "-b", bind, ordinary=True, ambient=ambient
        )
        stack.callback(server.dispose)
        server.ready()
        started = {event["group"] for event in server.find("readied")}
        while started < {"web", "clock"}:
            started.add(server.event("readied")["group"])
        nobody = pwd.getpwnam("nobody")
        ids = json.loads(server.get())["now"]["ids"]
        assert ids == [nobody.pw_uid] * 3 + [nobody.pw_gid] * 3
        assert all(one & 1 << 10 for one in capabilities(server.pid))  # CAP_NET_BIND_SERVICE
        for process in [*server.workers(), *server.ask("status")["zygotes"]]:
            assert capabilities(process["pid"])[:4] == [0] * 4
        assert server.stop() == 0


@superuser
@pytest.mark.parametrize(("dumpable", "is_closed"), [("auto", True), ("on", False)])
def test_memory_with_a_tls_key_is_closed_to_others_of_the_same_user(
    tmp_path: Path, dumpable: str, is_closed: bool
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    options = ("--tls-cert", certificate, "--tls-key", key, "--dumpable", dumpable)
    with serving_as_nobody(tmp_path, *options, workers=1) as server:
        secured(server.address, authority.client()).close()
        pids = [one["pid"] for one in [*server.workers(), *server.ask("status")["zygotes"]]]
        assert len(pids) == 2
        group = str(pwd.getpwnam("nobody").pw_gid)
        look = ("setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups", "cat")
        for pid in pids:
            done = subprocess.run([*look, f"/proc/{pid}/maps"], capture_output=True, check=False)
            assert (done.stdout == b"", done.returncode == 1) == (is_closed, is_closed)


@superuser
def test_no_key_is_read_through_a_directory_of_the_workers_user(tmp_path: Path) -> None:
    """A link there would have root read any file for a worker that was broken into."""
    (place := tmp_path / "keys").mkdir()
    authority = Authority(place)
    certificate, key = authority.issue("server")
    options = ("--tls-cert", certificate, "--tls-key", key)
    with serving_as_nobody(tmp_path, *options, workers=1) as server:
        os.chown(place, pwd.getpwnam("nobody").pw_uid, -1)
        with pytest.raises(Refused, match="workers could put another file"):
            server.ask("certificates")
        os.chown(place, 0, -1)
        assert server.ask("certificates")["ok"]


def files_of(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(link.readlink()))
    return found


@superuser
def test_a_right_that_cannot_be_had_ends_the_start_as_a_wrong_setting(tmp_path: Path) -> None:
    beyond = str(int(Path("/proc/sys/fs/nr_open").read_text()) + 1)
    with running(tmp_path, "tell:app", "--limit-nofile", beyond) as server:
        assert server.wait() == 4
        assert "limit_nofile: it cannot be had" in server.log()


@superuser
def test_root_without_a_user_serves_with_one_warning_that_names_the_option(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert status(server.workers()[0]["pid"])["Uid"] == ["0"] * 4
        server.signal(signal.SIGHUP)
        server.event("rollout_finished")
        assert server.stop() == 0
        (warning,) = server.find("runs_as_root")
        assert "--user www-data" in warning["next"]
        lines = [json.loads(line) for line in server.log().splitlines()]
        assert [one["message"] for one in lines if one["level"] == "warning"] == ["runs as root"]


@superuser
def test_root_by_choice_is_not_warned_of(tmp_path: Path) -> None:
    with serving(tmp_path, "tell:app", "--user", "root") as server:
        assert server.stop() == 0
        assert not server.find("runs_as_root")


def test_limits_change_with_a_reload(tmp_path: Path) -> None:
    """They are the zygote's, so that nothing has to be restarted for them."""
    pid_file = tmp_path / "pid"
    (tmp_path / "clusterd.toml").write_text("limit_nofile = 400\n")
    with serving(tmp_path, "rights:app", "--pid-file", str(pid_file), workers=1) as server:
        assert int(pid_file.read_text()) == server.pid
        assert json.loads(server.get())["now"]["nofile"] == [400, 400]
        (tmp_path / "clusterd.toml").write_text("limit_nofile = 300\n")
        server.signal(signal.SIGHUP)
        server.event("rollout_finished")
        assert json.loads(server.get())["now"]["nofile"] == [300, 300]
    assert not pid_file.exists()


@superuser
def test_a_program_is_whom_its_group_says(tmp_path: Path) -> None:
    """And who the others are is said once, for all."""
    (tmp_path / "clusterd.toml").write_text(
        'user = "nobody"\n'
        "[group.clock]\n"
        'directory = "/"\n'
        'command = ["sh", "-c", "umask; id -un; exec sleep 1000"]\n'
        'readiness = "line:daemon"\n'
        'user = "daemon"\n'
        'umask = "077"\n'
        "[group.bell]\n"
        'directory = "/"\n'
        'command = ["sh", "-c", "echo bell; id -un; exec sleep 1000"]\n'
        'readiness = "line:nobody"\n'
    )
    with serving_as_nobody(tmp_path, workers=1, typed=()) as server:
        while {e["group"] for e in server.find("readied")} < {"web", "clock", "bell"}:
            server.event("readied")
        names = {"web": "nobody", "clock": "daemon", "bell": "nobody"}
        for worker in server.workers():
            uid = str(pwd.getpwnam(names[worker["group"]]).pw_uid)
            assert status(worker["pid"])["Uid"] == [uid] * 4
            if worker["group"] == "clock":
                assert status(worker["pid"])["Umask"] == ["0077"]


@superuser
def test_workers_of_another_user_do_not_outlive_a_killed_master(tmp_path: Path) -> None:
    with serving_as_nobody(tmp_path, "--graceful-timeout", "0.2") as server:
        [stuck, *_] = [worker["pid"] for worker in server.workers()]
        os.kill(stuck, signal.SIGSTOP)
        with open(os.pidfd_open(stuck), "rb") as end:
            server.process.kill()
            server.process.wait()
            assert select.select([end], [], [], LIMIT)[0]


@superuser
def test_clusterd_itself_must_lie_where_its_workers_may_look(tmp_path: Path) -> None:
    """The interpreter runs with their rights from the beginning. Said by `run` and by `check`."""
    wrapper = opening()
    if wrapper is None:
        pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
    with tempfile.TemporaryDirectory(prefix="clusterd-rights-") as folder:  # of mode 0700
        shutil.copytree(
            ROOT / "clusterd", Path(folder, "clusterd"), ignore=shutil.ignore_patterns("*.pyc")
        )
        said = f"user: nobody may not enter or read {folder}, where clusterd itself lies"
        env: dict[str, Any] = {"PYTHONPATH": folder}
        with running(tmp_path, "tell:app", "--user", "nobody", wrapper=wrapper, **env) as server:
            assert server.wait() == Exit.CONFIG
            assert said in server.log()
        words = ("check", "tell:app", "--app-dir", str(ROOT / "tests/apps"), "--user", "nobody")
        done = subprocess.run(
            [*wrapper, sys.executable, "-m", "clusterd.cli.main", *words, "-b", "127.0.0.1:0"],
            cwd=tmp_path,
            env={**os.environ, **env, "CLUSTERD_RUNTIME_DIR": str(tmp_path)},
            capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == Exit.FAILED
        assert said in done.stdout


SITE = """
import json, os, sys
with open(os.environ["SITE_FILE"], "a") as file:
    what = [os.getpid(), sys.orig_argv[4:5], os.getresuid(), os.getresgid(), os.getgroups()]
    file.write(json.dumps([*what, dict(os.environ)]) + "\\n")
"""


@superuser
@pytest.mark.parametrize("preload", ["auto", "never"])
def test_no_interpreter_but_the_masters_ever_runs_as_root(preload: str, tmp_path: Path) -> None:
    """Not even to import `site`, which comes before all of ours: zygotes, workers and shims."""
    nobody, daemon = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
    (tmp_path / "sitecustomize.py").write_text(SITE)
    tmp_path.chmod(0o755)
    (tmp_path / "clusterd.toml").write_text(
        'user = "nobody"\n[group.clock]\ncommand = ["sleep", "1000"]\nuser = "daemon"\n'
        'directory = "/"\nready_after = 0\n'
    )
    with tempfile.TemporaryDirectory(prefix="clusterd-rights-") as folder:
        os.chmod(folder, 0o777)
        file = Path(folder, "site")
        file.touch()
        file.chmod(0o666)
        wrapper = opening(tmp_path)
        if wrapper is None:
            pytest.skip("the interpreter is closed to others, and nothing can open it")
        env: dict[str, Any] = {
            "PYTHONPATH": f"{ROOT}:{tmp_path}", "SITE_FILE": str(file), "MAIL": "/root/mail",
            "SHOP_KEY": "tea", "SUDO_COMMAND": "secret",
        }  # fmt: skip
        words = ("-w", "1", "--min-ready", "0", "--preload", preload)
        with running(tmp_path, "tell:app", *words, wrapper=wrapper, **env) as server:
            server.ready()
            started = {event["group"] for event in server.find("readied")}
            while started < {"web", "clock"}:
                started.add(server.event("readied")["group"])
            seen = [json.loads(line) for line in file.read_text().splitlines()]
            assert server.stop() == 0
    theirs = [one for one in seen if one[0] != server.pid]
    assert len(theirs) == (3 if preload == "never" else 2)
    assert {tuple(one[2]) for one in theirs} == {(nobody.pw_uid,) * 3, (daemon.pw_uid,) * 3}
    for _, _, uids, gids, groups, environ in theirs:
        who = nobody if uids[0] == nobody.pw_uid else daemon
        assert gids == [who.pw_gid] * 3
        assert set(groups) == {who.pw_gid}
        assert environ["HOME"] == who.pw_dir
        assert environ["SHOP_KEY"] == "tea"
        assert not {"MAIL", "SUDO_COMMAND"} & set(environ)


@superuser
def test_a_directory_that_hides_the_application_is_named(tmp_path: Path) -> None:
    """By `run` and by `check`: the import machinery passes over it without a word."""
    wrapper = opening()
    if wrapper is None:
        pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
    with tempfile.TemporaryDirectory(prefix="clusterd-rights-") as folder:
        Path(folder, "wsgi.py").write_text("def app(environ, start): ...\n")
        words = ("--app-dir", folder, "--user", "nobody")
        with running(tmp_path, "wsgi:app", *words, wrapper=wrapper) as server:
            assert server.wait() == 3
            assert f"{folder} may not be entered by nobody" in server.log()
            assert "let nobody enter it" in server.log()
        argv = [*wrapper, sys.executable, "-m", "clusterd.cli.main", "check", "wsgi:app", *words]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "CLUSTERD_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(
            [*argv, "-b", "127.0.0.1:0"], cwd=tmp_path, env=env, capture_output=True, text=True,
            timeout=LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert f"{folder} may not be entered by nobody" in done.stdout


BETRAYS = """\
import mmap, os, signal, struct, sys
from clusterd.ipc.scoreboard import SIZE, Cell, HEADER, ROWS, WIDTH

keeper, victim = os.getppid(), int(sys.argv[1])
for name in os.listdir(f"/proc/{keeper}/fd"):
    path = f"/proc/{keeper}/fd/{name}"
    if "clusterd-scoreboard" in os.readlink(path):
        with open(path, "r+b", buffering=0) as board, mmap.mmap(board.fileno(), SIZE) as cells:
            for row in range(ROWS):
                place = 8 * (HEADER + ROWS + row * WIDTH + Cell.COMMAND)
                cells[place:place + 8] = struct.pack("Q", victim)
        os.kill(keeper, signal.SIGKILL)
signal.pause()
"""


@superuser
def test_a_program_has_no_group_of_another_user_killed_by_writing_into_the_scoreboard(
    tmp_path: Path,
) -> None:
    """The master kills what is left of the program whose pid stands there."""
    (tmp_path / "betrays.py").write_text(BETRAYS)
    tmp_path.chmod(0o755)
    wrapper = opening(tmp_path)
    if wrapper is None:
        pytest.skip("the interpreter is closed to others, and nothing can open it")
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as victim:
        (tmp_path / "clusterd.toml").write_text(
            'user = "nobody"\n[group.traitor]\nready_after = 0\n'
            f'command = ["{sys.executable}", "{tmp_path}/betrays.py", "{victim.pid}"]\n'
        )
        words = ("-w", "1", "--min-ready", "0")
        try:
            with running(tmp_path, "tell:app", *words, wrapper=wrapper) as server:
                for _ in range(2):  # at the second end the master has acted upon the first
                    server.event("exited", group="traitor", cause="SIGKILL")
                assert server.stop() == 0
            assert victim.poll() is None
        finally:
            victim.kill()
