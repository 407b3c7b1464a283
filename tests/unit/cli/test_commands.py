"""What people type: each command asks the right thing, and each slip gets one clear line."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from clusterd import __version__
from clusterd.cli import here
from clusterd.cli.commands import COMMANDS
from clusterd.cli.main import may_name_a_user, run
from clusterd.config.settings import TABLE
from clusterd.core.events import Event
from clusterd.core.events import Kind as EventKind
from clusterd.core.exits import Exit
from clusterd.ipc import last_run
from tests.unit.cli.conftest import ScriptedMaster

ME = f"{os.geteuid()}:{os.getegid()}"  # root must say so
STATUS: dict[str, Any] = {
    "ok": True, "name": "clusterd", "app": "shop:app", "version": "0.1.0", "pid": 1,
    "state": "serving", "size": 1, "ready": 1, "generation": 1, "uptime": 1.0, "journal": 12,
}  # fmt: skip


class Master(Protocol):
    """The scripted master of conftest."""

    replies: dict[str, Any]
    asked: list[dict[str, Any]]


@pytest.mark.parametrize(
    ("args", "asked", "said"),
    [
        (["reload"], {"command": "reload"}, "reload to generation 2 has begun"),
        (["reload", "--wait"], {"command": "reload", "wait": True}, "generation 2 serves"),
        (["rollback"], {"command": "rollback"}, "rollback to generation 2 has begun"),
        (["scale", "3"], {"command": "scale", "to": 3}, "3 workers wanted"),
        (
            ["restart", "1", "--group", "web"],
            {"command": "restart", "slot": 1, "group": "web"},
            "slot 1 is served by process 7",
        ),
        (
            ["scale", "auto"],
            {"command": "scale", "to": "auto"},
            "3 workers wanted, more or fewer by their load",
        ),
        (["scale", "+2"], {"command": "scale", "by": 2}, "3 workers wanted"),
        (["scale", "-1"], {"command": "scale", "by": -1}, "3 workers wanted"),
        (
            ["scale", "3", "--force"],
            {"command": "scale", "to": 3, "force": True},
            "3 workers wanted",
        ),
        (["pause"], {"command": "pause"}, "paused"),
        (["resume"], {"command": "resume"}, "resumed"),
        (["reopen"], {"command": "reopen"}, "log file reopened"),
        (["upgrade"], {"command": "upgrade", "wait": True}, "the master runs clusterd 7.0 now (it"),
        (["stop", "--no-wait"], {"command": "stop", "quick": False}, "stopping"),
    ],
)
def test_a_command_asks_and_says_what_happens(
    args: list[str],
    asked: dict[str, Any],
    said: str,
    master: Master,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reply = {"ok": True, "generation": 2, "size": 3}
    master.replies = {"reload": reply, "rollback": reply, "scale": reply}
    master.replies["upgrade"] = {"ok": True, "version": "7.0", "previous": "6.0"}
    master.replies["restart"] = {"ok": True, "slot": 1, "pid": 7}
    assert run(args) == Exit.OK
    assert master.asked == [asked]
    assert capsys.readouterr().out.startswith(said)


def test_stop_waits_until_the_journal_ends(
    master: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    master.replies = {"status": STATUS, "events": [{"n": 13, "kind": "stopped"}]}
    assert run(["stop"]) == Exit.OK
    assert [one["command"] for one in master.asked] == ["status", "events", "stop"]
    assert master.asked[1] == {"command": "events", "since": 12, "follow": True}
    assert capsys.readouterr().out == "stopped\n"


def test_a_failed_rollout_is_exit_1_with_the_traceback(
    master: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    master.replies["reload"] = {
        "ok": False,
        "error": "generation 2 was turned back: the application cannot be imported",
        "remedy": "Generation 1 serves on.",
        "traceback": "Traceback (most recent call last):\nNameError: oops\n",
    }
    assert run(["reload", "--wait"]) == Exit.FAILED
    assert capsys.readouterr().err.splitlines() == [
        "clusterd: generation 2 was turned back: the application cannot be imported",
        "Traceback (most recent call last):",
        "NameError: oops",
        "Generation 1 serves on.",
    ]


def test_status_is_a_table_for_people_and_the_reply_itself_for_programs(
    master: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    master.replies["status"] = STATUS
    assert run(["status"]) == Exit.OK
    assert "shop:app is serving, 1 of 1 ready" in capsys.readouterr().out
    assert run(["status", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == STATUS


def test_events_are_one_a_line(master: Master, capsys: pytest.CaptureFixture[str]) -> None:
    events = [{"n": 6, "time": 0.0, "kind": "started"}, {"n": 7, "time": 0.0, "kind": "ready"}]
    master.replies["events"] = events
    assert run(["events", "--since", "5", "--json"]) == Exit.OK
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == events
    assert master.asked == [{"command": "events", "since": 5, "follow": False}]
    assert run(["events", "--follow"]) == Exit.OK
    assert capsys.readouterr().out.count("\n") == 2


def test_dump_shows_each_workers_stack(master: Master, capsys: pytest.CaptureFixture[str]) -> None:
    master.replies["dump"] = {
        "ok": True,
        "dumps": [{"slot": 0, "generation": 1, "pid": 7, "text": "File x.py, line 1\n"}],
    }
    assert run(["dump"]) == Exit.OK
    assert capsys.readouterr().out == "worker=0 gen=1 pid=7\nFile x.py, line 1\n\n"


# These speak to no cluster, or need an argument to.
OTHERS = {"bench", "run", "check", "config", "completion", "jobs", "restart", "scale", "systemd"}


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - OTHERS - {"why"}))
def test_a_command_says_plainly_that_nothing_runs(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name]) == Exit.FAILED
    first = capsys.readouterr().err.splitlines()[0]
    directory = place / "clusterd"
    assert first == f"clusterd: no cluster runs: there is no control socket in {directory}"


def test_a_socket_that_nobody_listens_at_is_no_cluster(
    master: Master, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "clusterd/dead.sock").touch()
    assert run(["status", "--name", "dead"]) == Exit.FAILED
    assert "no cluster runs at" in capsys.readouterr().err


def test_other_names_in_the_directory_are_told(
    master: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "--name", "shop"]) == Exit.FAILED
    assert "There is clusterd: say --name clusterd." in capsys.readouterr().err


def test_the_only_cluster_is_meant_whatever_its_name(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    master = ScriptedMaster(place / "clusterd/shop.sock")
    (place / "clusterd/dead.sock").touch()
    assert run(["pause"]) == Exit.OK
    master.close()
    assert [one["command"] for one in master.asked] == ["pause"]


@pytest.mark.parametrize(
    ("command", "default"),
    [("status", "[default: the only cluster that runs]"), ("stop", "[default: the only"),
     ("why", "[default: the only"), ("run", "[clusterd]"), ("check", "[clusterd]")],
)  # fmt: skip
def test_the_help_says_which_cluster_is_meant_without_a_name(
    command: str, default: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--help"]) == Exit.OK
    words = " ".join(capsys.readouterr().out.split())
    told = words.partition("--name NAME ")[2].partition(" --")[0]
    assert told.startswith("Name of this cluster")
    assert default in told


def test_of_several_clusters_none_is_guessed(
    master: Master, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place / "clusterd/shop.sock"))
        other.listen()
        assert run(["stop"]) == Exit.FAILED
        said = capsys.readouterr().err.splitlines()
        assert said[0] == "clusterd: several clusters run here: say which of them is meant"
        assert [line.split(":")[0] for line in said[1:]] == ["  --name clusterd", "  --name shop"]
        assert f"(pid {os.getpid()})" in said[1]
        assert run(["status"]) == Exit.FAILED, "the shortcut guesses as little"
        assert run(["why"]) == Exit.FAILED, "and no last run is told of instead"
        assert not master.asked
        assert run(["pause", "--name", "clusterd"]) == Exit.OK


def test_why_tells_of_no_other_clusters_last_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    ended, runtime = [Event(1, 1.0, EventKind.STOPPED, {"code": 0})], str(place / "clusterd")
    for name, where in (("shop", runtime), ("clusterd", "/run/other")):
        last_run.write(ended, name, where, os.environ)
    assert run(["why"]) == Exit.FAILED
    said = capsys.readouterr().err.splitlines()
    reason = "runs, and the last run left no record (was its master killed?)"
    assert said[0] == f"clusterd: no cluster {reason}"
    assert run(["why", "--name", "blue"]) == Exit.FAILED
    assert capsys.readouterr().err.splitlines()[0] == f"clusterd: no cluster named 'blue' {reason}"
    assert run(["why", "--name", "shop"]) == Exit.OK
    assert "shop does not run; its last run ended at " in capsys.readouterr().err
    last_run.write(ended, "clusterd", runtime, os.environ)
    assert run(["why"]) == Exit.OK
    assert "clusterd does not run; its last run ended at " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["config", "--worker", "3"], "clusterd config: no such option '--worker'"),
        (["cofnig"], "clusterd: no such command 'cofnig'"),
        (["status", "extra"], "clusterd status: got unexpected extra argument"),
        (["config", "-w"], "clusterd: option '-w' requires an argument"),
        (["config", "-w", "x"], "clusterd: --workers: 'x' is not allowed; allowed: auto"),
        (["config", "--config", "no.toml"], "clusterd: "),
        (["run"], "clusterd: run: no application is named"),
        (["run", "shop.py"], "clusterd: APP: 'shop.py' is a file; a module is wanted: shop:app"),
        (["run", "shop", "--user", ME, "--log-file", "no/dir/log"], "clusterd: --log-file: "),
        (["scale", "many"], "clusterd: scale: 'many' is not allowed; allowed: N, +N, -N or auto"),
        (["scale", "+-1"], "clusterd: scale: '+-1' is not allowed"),
        (["scale"], "clusterd scale: missing argument"),
        (["restart", "-1"], "clusterd restart: no such option '-1'"),
        (["events", "--since", "x"], "clusterd events: invalid value for '--since'"),
        (["completion", "csh"], "clusterd completion: invalid value for"),
    ],
)
def test_bad_usage_is_exit_4_with_one_clear_line(
    args: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(args) == Exit.CONFIG
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(said)
    assert len(lines) == 1 or args == ["run"]  # which shows how to try the demo


def test_without_a_command_the_help_is_shown_and_nothing_was_done(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([]) == Exit.CONFIG
    assert "Usage: clusterd" in capsys.readouterr().err


def test_every_setting_is_an_option_and_every_option_has_help(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", "--help"]) == Exit.OK
    text = " ".join(capsys.readouterr().out.split())
    for row in filter(lambda row: row.is_option, TABLE.values()):
        assert (row.about.metavar if row.name == "app" else row.flag) in text
        assert " ".join(row.about.help.split()[:3]) in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_first_line_is_the_line_in_the_list(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == Exit.OK
    if name != "completion":  # its list entry need not name the shells
        assert COMMANDS[name][2] in capsys.readouterr().out


def test_config_shows_every_setting_and_where_it_came_from(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "clusterd.toml").write_text("keep_alive = '2m'\n")
    args = ["config", "shop", "-w", "3", "-b", ":80", "-b", "[::]:80", "--access-log"]
    assert run([*args, "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(TABLE)
    assert found["bind"] == {"value": ["0.0.0.0:80", "[::]:80"], "origin": "--bind"}
    assert found["keep_alive"] == {"value": 120.0, "origin": "clusterd.toml keep_alive"}
    assert found["access_log"] == {"value": True, "origin": "--access-log"}
    assert run(args) == Exit.OK
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["workers", "3", "--workers"] in rows
    assert ["keep_alive", "2m", "clusterd.toml", "keep_alive"] in rows


@pytest.mark.parametrize(
    ("words", "value", "http2"),
    [
        (["--no-new-privs"], "on", "auto"),
        (["--no-new-privs", "--http2", "on"], "on", "on"),
        (["--no-new-privs", "off"], "off", "auto"),
        (["--no-new-privs=auto", "--http2", "--no-pin"], "auto", "on"),
        (["--no-no-new-privs", "--no-http2"], "off", "off"),
    ],
)
def test_an_option_of_on_and_off_may_be_written_as_a_switch(
    words: list[str], value: str, http2: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["config", "shop", *words, "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["no_new_privs"]["value"], found["http2"]["value"]) == (value, http2)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(
    shell: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["completion", shell]) == Exit.OK
    assert "_CLUSTERD_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["rel"], "reload"),
        (["run", "--bal"], "--balance"),
        (["run", "--balance", "re"], "reuseport"),
        (["status", "--js"], "--json"),
    ],
)
def test_the_shell_is_offered_commands_options_and_choices(
    typed: list[str], offered: str, place: Path
) -> None:
    words = " ".join(["clusterd", *typed])
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "_CLUSTERD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(typed)),
    }
    command = [sys.executable, "-m", "clusterd.cli.main"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert f"plain,{offered}" in done.stdout.splitlines()


def test_the_version_needs_no_click(place: Path) -> None:
    """It is asked by scripts, and must not take longer than the interpreter itself."""
    code = (
        "import sys; from clusterd.cli.main import run; run(['--version']); "
        "assert 'click' not in sys.modules"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"clusterd {__version__}\n"


def test_the_directory_is_the_one_the_shell_names(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`current -> releases/42`: a reload must look through `current` again."""
    (place / "releases").mkdir()
    (place / "current").symlink_to("releases")
    monkeypatch.chdir(place / "current")
    monkeypatch.setenv("PWD", str(place / "current"))
    assert here.directory() == place / "current"
    monkeypatch.setenv("PWD", "/somewhere/else")
    assert here.directory() == (place / "releases").resolve()


@pytest.mark.parametrize(
    ("args", "variable", "file", "may"),
    [
        ([], "", "", False),
        (["--user", "www-data"], "", "", True),
        (["--user=www-data"], "", "", True),
        (["--config", "other.toml"], "", "", True),
        ([], "CLUSTERD_USER", "", True),
        ([], "CLUSTERD_CONFIG", "", True),
        ([], "", "[group.a]\nuser = 'a'\n", True),
        (["--workers", "2"], "", "workers = 2\n", False),
    ],
)
def test_no_zygote_is_started_as_root_where_a_user_may_be_named(
    args: list[str],
    variable: str,
    file: str,
    may: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if variable:
        monkeypatch.setenv(variable, "x")
    if file:
        (tmp_path / "clusterd.toml").write_text(file)
    assert may_name_a_user(["run", "shop:app", *args]) is may


def test_what_lies_in_place_of_settings_is_neither_waited_for_nor_read_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("clusterd.toml")
    Path("pyproject.toml").mkdir()
    before = os.listdir("/proc/self/fd")
    assert not may_name_a_user(["run", "shop:app"])
    assert os.listdir("/proc/self/fd") == before
    os.unlink("clusterd.toml")
    with open("clusterd.toml", "wb") as file:
        file.truncate(1 << 40)  # a hole, as long as no memory is
    assert may_name_a_user(["run", "shop:app"])


def test_python_m_imports_nothing_from_the_current_directory(tmp_path: Path) -> None:
    """It may be another user's, while root types the command."""
    for name in ("click", "tomllib", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from here')\n")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "clusterd", "config"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
