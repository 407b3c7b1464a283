"""The clusterd that a benchmark starts: its command line, and the control socket's words."""

import shlex
from pathlib import Path

import pytest

from clusterd.bench import shim
from clusterd.cli.bench_cluster import NAME, Insight, cluster
from clusterd.core.errors import ConfigError, NotRunning
from tests.unit.cli.conftest import ScriptedMaster

APP = "clusterd.demo:app"


@pytest.fixture(autouse=True)
def _place(place: Path) -> None:
    """Be in an empty directory."""


def words(command: str) -> list[str]:
    return shlex.split(command)


def test_what_was_passed_comes_before_what_is_ours() -> None:
    """So the address, the workers and the runtime directory are ours whatever was said."""
    found = cluster(APP, ["--threads", "16", "--pid-file", "x"], "src dir", breakable=False)
    command = words(found.command)
    assert command[:5] == ["{python}", "-m", "clusterd.cli.main", "run", APP]
    assert command[5:11] == ["--threads", "16", "--pid-file", "x", "--app-dir", "src dir"]
    assert found.command.count("{port}") == found.command.count("{workers}") == 1
    assert command[command.index("--runtime-dir") + 1] == "{folder}"
    assert found.config.wsgi.threads == 16
    assert found.scheme == "http"
    assert not found.notes


def test_settings_of_the_directory_count_and_what_is_in_the_way_is_told(place: Path) -> None:
    (place / "clusterd.toml").write_text(
        "max_workers = 8\naccess_log = true\n[group.mail]\ncommand = 'sleep 9'\n"
    )
    found = cluster(APP, [], None, breakable=False)
    assert found.config.log.access_log
    assert [note.split(":")[0] for note in found.notes] == [
        "the settings' other groups ran beside it",
        "the access log was on, as the settings say",
        "autoscaling was turned off",
    ]


def test_what_cannot_be_had_twice_is_in_nobodys_way(place: Path) -> None:
    """An address, files and a place for sockets that the running cluster may have."""
    (place / "clusterd.toml").write_text(
        "admin = '127.0.0.1:9999'\npid_file = 'a.pid'\nlog_file = 'no/a'\nbind = '1.2.3.4:5'\n"
    )
    command = words(cluster(APP, [], None, breakable=False).command)
    for flag in ("--admin", "--pid-file", "--log-file"):
        assert command[command.index(flag) + 1] == ""
    assert command.count("--bind") == 1


@pytest.mark.parametrize("option", ["-b 127.0.0.1:1", "-w 2", "--runtime-dir /tmp"])
def test_what_is_the_benchmarks_cannot_be_passed(option: str) -> None:
    with pytest.raises(ConfigError, match="is the benchmark's to say"):
        cluster(APP, option.split(), None, breakable=False)


def test_a_refusal_is_told_before_anything_is_started(place: Path) -> None:
    with pytest.raises(ConfigError, match="thraeds"):
        (place / "clusterd.toml").write_text("thraeds = 2")
        cluster(APP, [], None, breakable=False)


def test_a_certificate_makes_it_https(place: Path) -> None:
    (place / "a.pem").touch()
    found = cluster(APP, ["--tls-cert", "a.pem"], None, breakable=False)
    assert found.scheme == "https"
    mutual = ["--tls-cert", "a.pem", "--tls-ca", "a.pem", "--tls-client-cert", "required"]
    found = cluster(APP, mutual, None, breakable=False)
    assert found.scheme == "http"
    assert "'127.0.0.1:{port},tls=off'" in found.command
    assert "TLS was off" in found.notes[0]


def test_a_breakable_one_is_served_through_the_shim() -> None:
    found = cluster(APP, [], None, breakable=True)
    assert "clusterd.bench.shim:app" in words(found.command)
    assert found.env == {shim.APP: APP}
    assert "clusterd.bench.shim:app()" in words(cluster("shop:make()", [], None, True).command)


def worker(pid: int, phase: str, group: str = "web") -> dict[str, object]:
    return {
        "slot": 0,
        "pid": pid,
        "generation": 1,
        "phase": phase,
        "group": group,
        "requests": pid * 10,
    }


@pytest.fixture
def insight(place: Path, master: ScriptedMaster) -> Insight:
    (place / f"{NAME}.sock").symlink_to(master.path)
    master.replies["status"] = {
        "ok": True,
        "name": "bench",
        "app": APP,
        "version": "1",
        "pid": 1,
        "state": "running",
        "size": 2,
        "ready": 1,
        "generation": 3,
        "uptime": 1.0,
        "journal": 7,
        "workers": [worker(5, "ready"), worker(6, "booting"), worker(9, "ready", "mail")],
    }
    return Insight(str(place))


def test_workers_that_serve_and_what_each_has_answered(insight: Insight) -> None:
    assert insight.workers() == [5]
    assert insight.requests() == {5: 50, 6: 60}


def test_a_reload_is_begun_and_not_waited_for(insight: Insight, master: ScriptedMaster) -> None:
    insight.reload()
    assert master.asked == [{"command": "reload", "group": "web"}]


def test_a_broken_deploy_is_followed_until_it_is_refused(
    insight: Insight, master: ScriptedMaster, place: Path
) -> None:
    master.replies["events"] = [{"n": 8, "kind": "rollout_started"}]
    insight.begin()
    broken = place / shim.BREAKS
    assert broken.exists()
    assert insight.verdict() is None
    assert broken.exists()
    insight.mend()
    assert not broken.exists()
    insight.begin()
    assert {"command": "events", "since": 7, "follow": False} in master.asked
    master.replies["events"] = [{"n": 9, "kind": "rollout_failed"}]
    assert insight.verdict() == "the broken code was refused; generation 3 serves on"
    assert not broken.exists()


def test_a_broken_deploy_that_went_through_is_said(
    insight: Insight, master: ScriptedMaster
) -> None:
    master.replies["events"] = [{"n": 9, "kind": "rollout_finished"}]
    insight.begin()
    assert insight.verdict() == "the broken code was rolled in all the same"


def test_a_cluster_that_has_left_is_not_running(place: Path) -> None:
    with pytest.raises(NotRunning):
        Insight(str(place)).workers()
