"""What `clusterd check` says of any machine and settings, and how it learns of them."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusterd.cli import facts as gathering
from clusterd.cli.checks import CHECKS, FAIL, OK, OVERTIME, WARN, Bind, Facts, Finding, judged
from clusterd.cli.main import run
from clusterd.config.memory import memory_limit
from clusterd.config.settings import Config
from clusterd.core.exits import Exit
from clusterd.fleet.goal import Patience


def config(**sections: dict[str, Any]) -> Config:
    """Settings of an application, with some changed, by section."""
    base = Config()
    sections = {"app": {"app": "shop:app"}, "limits": {"user": "shop"}, **sections}
    changed = {name: replace(getattr(base, name), **more) for name, more in sections.items()}
    return replace(base, **changed)


def facts(one: Config | None = None, **more: Any) -> Facts:
    """A machine on which all is well, but for what is said."""
    return replace(
        Facts(
            groups={"web": one or config()},
            source="from APP",
            probes={"web": {"tls": {}, "app": {"seconds": 0.2, "interface": "asgi"}}},
            binds={"web": (Bind("127.0.0.1:8000"),)},
            cpus=2,
            control="/run/shop/clusterd.sock",
            now=1000.0,
        ),
        **more,
    )


IMPORTED = {"seconds": 0.2, "interface": "asgi"}
LATER = [["pandas", "a.py:3"]]
NOTHING = {"reason": "", "advice": ""}
THREAD = {"reason": "the import left the thread 'tea'", "advice": "Do it later."}


def said(of: Facts, check: str) -> list[Finding]:
    return [finding for finding in judged(of) if finding.check == check]


def test_limits_that_are_off_or_unknown_are_no_matter() -> None:
    off = config(vitals={"hang_dump": 0.0, "hang_timeout": 0.0, "stall_timeout": 0.0})
    assert {finding.level for finding in said(facts(off, unit="a.service"), "timeouts")} == {OK}


def test_what_nobody_would_use_is_not_missed() -> None:
    assert not said(facts(has_h2=False), "extras")
    assert not said(facts(config(tls={"tls_cert": ("/c",)}, http={"http2": "off"}), has_h2=False),
                    "extras")  # fmt: skip


def test_without_settings_no_runtime_directory_is_missed() -> None:
    for of in (Facts(), Facts(settings_error=("workers: 'x' is not allowed", ""))):
        assert [finding.check for finding in judged(of)] == ["settings"]


def test_all_is_well_where_all_is_well() -> None:
    assert {finding.level for finding in judged(facts())} == {OK}
    assert len({finding.check for finding in judged(facts())}) >= 9


TLS = config(tls={"tls_cert": ("/c",)})


@pytest.mark.parametrize(
    ("check", "level", "of", "part"),
    [
        ("settings", FAIL, Facts(settings_error=("no.toml: cannot be read", "")), "cannot be read"),
        ("settings", FAIL, Facts(), "nothing to run"),
        ("app", FAIL, facts(probes={"web": {"app": {"error": "no module shop"}}}), "no module"),
        ("user", FAIL, facts(probes={"web": {"limits": {"error": "user: no", "remedy": ""}}}),
         "user: no"),
        ("app", WARN, facts(probes={"web": {"app": {"seconds": 40.0, "interface": "asgi"}}}),
         "imported in 40.0s of 1m00s"),
        ("user", FAIL, facts(user_errors={"web": ("user: started by root", "Say")}), "by root"),
        ("user", WARN, facts(config(limits={"user": "root:root"})), "superuser"),
        ("user", WARN, facts(config(limits={"user": ""}), superuser=True), "would run as root"),
        ("bind", FAIL, facts(binds={"web": (Bind("[::]:80", "Permission denied"),)}), "denied"),
        ("bind", OK, facts(binds={"web": (Bind("[::]:80", by_us=True),)}), "running cluster"),
        ("backlog", WARN, facts(somaxconn=128), "net.core.somaxconn = 128"),
        ("descriptors", WARN, facts(descriptors=1024), "1024 a worker, for 1000 connections"),
        ("descriptors", OK, facts(config(limits={"limit_nofile": 4096}), descriptors=1024), "4096"),
        ("workers", WARN, facts(config(fleet={"workers": 5})), "5 on 2 CPUs"),
        ("workers", WARN, facts(config(fleet={"workers": 1, "max_workers": 9})), "9 on 2 CPUs"),
        ("workers", OK, facts(config(fleet={"workers": 5}),
                              probes={"web": {"app": {"seconds": 0, "interface": "wsgi"}}}), "5"),
        ("memory", WARN, facts(config(fleet={"workers": 4}), memory_limit=2**27), "32 MiB each"),
        ("memory", WARN, facts(config(fleet={"workers": 4}, vitals={"max_memory": 2**30}),
                               memory_limit=2**31), "4 GiB by max_memory"),
        ("memory", OK, facts(config(fleet={"workers": 4}), memory_limit=2**31), "2 GiB"),
        ("timeouts", WARN, facts(unit="shop.service", stop_timeout=10.0), "10s is TimeoutStopSec"),
        ("timeouts", OK, facts(unit="shop.service", stop_timeout=90.0), "1m30s is TimeoutStopSec"),
        ("timeouts", OK, facts(kubernetes=True), "terminationGracePeriodSeconds"),
        ("timeouts", WARN, facts(config(fleet={"graceful_timeout": 60.0}), kubernetes=True),
         "1m03s"),
        ("timeouts", WARN, facts(config(fleet={"graceful_timeout": 5.0, "stream_grace": 5.0})),
         "stream_grace"),
        ("timeouts", WARN, facts(config(vitals={"hang_dump": 40.0})), "hang_dump 40s is longer"),
        ("timeouts", WARN, facts(config(vitals={"stall_timeout": 20.0})), "than stall_timeout"),
        ("keep_alive", WARN, facts(config(http={"keep_alive": 5.0})), "5.0s"),
        ("tls", FAIL, facts(TLS, probes={"web": {"tls": {"error": "no key"}}}), "no key"),
        ("tls", FAIL, facts(TLS, probes={"web": {"tls": {"expires": 900.0, "names": []}}}),
         "expired"),
        ("tls", WARN, facts(TLS, probes={"web": {"tls": {"expires": 90000.0, "names": ["a.b"]}}}),
         "for a.b: expires in 1d00h"),
        ("tls", OK, facts(TLS, probes={"web": {"tls": {"expires": 9e9, "names": ["a.b"]}}}),
         "for a.b"),
        ("extras", WARN, facts(TLS, has_h2=False), "h2 is not installed"),
        ("extras", WARN, facts(remark="--dev does not reload; pip install it"), "not reload"),
        ("control", WARN, facts(control=""), "no runtime directory"),
        ("control", FAIL, facts(control_error="/run may not be written to"), "may not"),
        ("control", WARN, facts(running=True), "'clusterd run' would end"),
        ("log_file", FAIL, facts(log_error="/log may not be written to"), "may not"),
        ("preload", OK, facts(probes={"web": {"app": {**IMPORTED, "left": NOTHING}}}), "once"),
        ("preload", OK, facts(probes={"web": {"app": {**IMPORTED, "shared": ["flask: uuid4"]}}}),
         "flask: uuid4"),
        ("preload", OK, facts(probes={"web": {"app": {**IMPORTED, "later": LATER}}}),
         "first use: pandas (a.py:3)"),
        ("preload", WARN, facts(probes={"web": {"app": {**IMPORTED, "left": THREAD}}}),
         "the import left the thread 'tea'; so each worker imports for itself"),
        ("preload", FAIL, facts(config(app={"app": "shop:app", "preload": "always"}),
                                probes={"web": {"app": {**IMPORTED, "left": THREAD}}}),
         "forking is not safe: the import left the thread 'tea'"),
        ("command", FAIL, facts(config(app={"app": ""}, command={"command": ("mailer", "-v")})),
         "no program mailer"),
        ("command", OK, facts(config(app={"app": ""}, command={"command": ("mailer",)}),
                              programs={"web": "/usr/bin/mailer"}), "/usr/bin/mailer"),
    ],
)  # fmt: skip
def test_each_check_judges(check: str, level: str, of: Facts, part: str) -> None:
    found = said(of, check)
    assert level in [finding.level for finding in found]
    hit = [finding for finding in found if finding.level == level and part in finding.text]
    assert hit, found
    assert level == OK or hit[0].remedy or part in ("no module", "no key", "user: no")


def test_of_several_groups_the_one_that_is_meant_is_named() -> None:
    both = replace(facts(somaxconn=128), groups={"web": config(), "api": config()})
    assert [f.text[-12:] for f in said(both, "backlog")] == [" (group web)", " (group api)"]


def test_the_time_until_a_kill_is_that_of_the_master() -> None:
    assert Patience().overtime == OVERTIME


def test_every_check_is_reached() -> None:
    assert {"tls", "memory", "command", "log_file"} <= set(CHECKS)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1min 30s", 90.0), ("25s", 25.0), ("500ms", 0.5), ("2h 3min", 7380.0),
     ("infinity", 86400.0), ("", 0.0), ("nonsense", 0.0)],
)  # fmt: skip
def test_systemds_time_spans_are_read(text: str, seconds: float) -> None:
    assert gathering.timespan(text + "\n") == seconds


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, 0),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 0),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "2000\n",
          "sys/fs/cgroup/a/memory.max": "1000\n"}, 1000),
        ({"proc/self/cgroup": "4:memory:/x\n",
          "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n",
          "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000\n"}, 3000),
    ],
)  # fmt: skip
def test_the_tightest_limit_of_memory_counts(
    files: dict[str, str], limit: int, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == limit


def test_addresses_are_tried_and_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "in use" in gathering.tried(text, set()).error
        assert gathering.tried(text, {text}).by_us
    assert not gathering.tried(text, set()).error
    path = f"unix:{tmp_path}/s"
    assert not gathering.tried(path, set()).error
    assert list(tmp_path.iterdir()) == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s")
        assert not gathering.tried(path, set()).error, "a stale file is no hindrance"
        listener.listen()
        assert f"pid {os.getpid()}" in gathering.tried(path, set()).error
    assert "ot a directory" in gathering.tried(f"unix:{tmp_path}/s/t", set()).error


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("async def app(scope, receive, send): ...", "is ASGI"),
        ("def app(environ, start_response): ...", "is WSGI"),
        ("1 / 0", "ZeroDivisionError"),
        ("app = 7", "not callable"),
        ("import os; os._exit(7)", "ended the process with status 7"),
        ("import subprocess; subprocess.Popen(['sleep', '1000'])\ndef app(e, s): ...", "is WSGI"),
    ],
)
def test_the_application_is_imported_elsewhere(
    text: str, part: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "shop.py").write_text(text)
    code = run(["check", "shop", "--json", "-b", "127.0.0.1:0", "--user", _me()])
    found = [one for one in json.loads(capsys.readouterr().out) if one["check"] == "app"]
    assert part in found[0]["text"] + found[0]["below"]
    assert (code == Exit.OK) == (found[0]["level"] == OK), found


@pytest.mark.parametrize(
    ("preload", "level", "begins"),
    [
        ("auto", WARN, "the import left the thread 'tea' (shop.py"),
        ("always", FAIL, "forking is not safe: the import left the thread 'tea' (shop.py"),
    ],
)
def test_check_says_of_an_import_what_a_start_would(
    preload: str, level: str, begins: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "shop.py").write_text(
        "import threading\nstop = threading.Event()\n"
        "threading.Thread(target=stop.wait, daemon=True, name='tea').start()\n"
        "async def app(scope, receive, send): ...\n"
    )
    options = ["-b", "127.0.0.1:0", "--user", _me(), "--preload", preload]
    run(["check", "shop", "--json", *options])
    (found,) = [one for one in json.loads(capsys.readouterr().out) if one["check"] == "preload"]
    assert found["level"] == level
    assert found["text"].startswith(begins)
    assert "lifespan" in found["remedy"]


def test_a_control_socket_that_cannot_be_made_is_a_failure(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "shop.py").write_text("def app(e, s): ...\n")
    (place / "file").touch()
    options = ["-b", "127.0.0.1:0", "--user", _me(), "--runtime-dir", str(place / "file" / "run")]
    assert run(["check", "shop", "--json", *options]) == Exit.FAILED
    (found,) = [one for one in json.loads(capsys.readouterr().out) if one["check"] == "control"]
    assert (found["level"], found["text"]) == (FAIL, f"{place}/file is no directory")


def _me() -> str:
    return f"{os.geteuid()}:{os.getegid()}"


def test_people_get_a_table_and_what_fails_is_exit_1(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "clusterd.toml").write_text("worker = 3\n")
    assert run(["check", "shop"]) == Exit.FAILED
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["fail", "settings", "clusterd.toml:", "'worker'", "is", "no",
                              "setting;", "did", "you", "mean", "workers?"]  # fmt: skip
    assert out[-1].startswith("1 failed, ")


def test_whether_jobs_can_be_stored_is_judged_and_what_serves_no_address_is_not() -> None:
    of_jobs = {"jobs": "shop:jobs", "jobs_store": "sqlite:/srv/jobs.db"}
    group = config(app={"app": "shop:jobs"}, listen={"bind": ()}, jobs=of_jobs)

    def judge(told: dict[str, Any]) -> Facts:
        probes = {"jobs": {"app": IMPORTED, "jobs": told}}
        return facts(groups={"jobs": group}, probes=probes, binds={}, somaxconn=1)

    (finding,) = said(judge({"jobs": 3}), "jobs")
    assert (finding.level, finding.text) == (OK, "3 jobs, stored in sqlite:/srv/jobs.db")
    (finding,) = said(judge({"error": "it is not an SQLite database", "remedy": "x"}), "jobs")
    assert (finding.level, finding.text) == (FAIL, "it is not an SQLite database")
    for check in ("backlog", "descriptors", "keep_alive"):
        assert said(judge({"jobs": 3}), check) == []


@pytest.mark.parametrize("broken", [False, True])
def test_a_probe_opens_the_store_of_jobs_as_a_worker_would(
    broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_jobs.py").write_text(
        "from clusterd.jobs import Jobs\njobs = Jobs()\n@jobs.job\ndef f() -> None: ...\n"
    )
    store = tmp_path / "jobs.db"
    if broken:
        store.write_text("no database" * 1000)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    told = {"jobs": "shop_jobs:jobs", "app_dir": str(tmp_path), "jobs_store": f"sqlite:{store}"}
    found = gathering.gather(told, tmp_path)
    assert "error" not in found.probes["@scheduler"]["app"]
    if broken:
        assert "not an SQLite database" in found.probes["jobs"]["jobs"]["error"]
    else:
        assert found.probes["jobs"]["jobs"] == {"jobs": 1}
    assert not found.probes["@scheduler"].get("jobs")
