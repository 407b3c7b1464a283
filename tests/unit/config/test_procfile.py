"""Procfiles: words become arguments, shell syntax a shell, and bad lines say where they stand."""

import re
from pathlib import Path

import pytest

from clusterd.config import procfile
from clusterd.config.resolve import load_groups
from clusterd.core.errors import ConfigError

USER = {"CLUSTERD_USER": "root"}


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("python -m worker --name 'two words'", ["python", "-m", "worker", "--name", "two words"]),
        ("./run  now", ["./run", "now"]),
        ("serve --port $PORT", ["/bin/sh", "-c", "exec serve --port $PORT"]),
        ("serve ~/x", ["/bin/sh", "-c", "exec serve ~/x"]),
        ("A=1 serve", ["/bin/sh", "-c", "A=1 serve"]),
        ("a && b", ["/bin/sh", "-c", "a && b"]),
        ("a | b", ["/bin/sh", "-c", "a | b"]),
        ("a > log", ["/bin/sh", "-c", "a > log"]),
        ("a $(b)", ["/bin/sh", "-c", "a $(b)"]),
        ("a ${B:-c}", ["/bin/sh", "-c", "a ${B:-c}"]),
    ],
)
def test_a_shell_is_asked_only_where_there_is_something_for_it(
    command: str, argv: list[str]
) -> None:
    assert procfile.parse(f"job: {command}", "here") == ("job", argv)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("web serve", "line 1: 'web serve' is not NAME: COMMAND"),
        ("# note\n\nweb:\n", "line 3: 'web:' is not NAME: COMMAND"),
        ("a b: c", "line 1: 'a b: c' is not NAME: COMMAND"),
        ("_: c", "line 1: '_' is no name of a group"),
        ("job: say 'x", 'line 1: "say \'x" is no command: No closing quotation'),
        ("job: a\njob: b", "line 2: job stands here twice"),
        ("known: a", "line 1: known is a group already, by [group.known]"),
    ],
)
def test_bad_lines_say_where_they_stand(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "Procfile"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"Procfile {complaint}")):
        procfile.groups(str(path), {"known": {}})


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        procfile.groups(str(tmp_path / "Procfile"), {})
    (tmp_path / "Procfile").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text, at byte 3"):
        procfile.groups(str(tmp_path / "Procfile"), {})
    assert procfile.groups("", {}) == {}


def test_each_line_is_a_group_with_a_port_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("# all of it\n\nweb: serve\nclock: tick 'a b'\n")
    found = load_groups({"procfile": "Procfile"}, USER, tmp_path)
    assert set(found) == {"web", "clock"}
    assert found["clock"].command.command == ("tick", "a b")
    assert found["clock"].command.environment == ("PORT=5100",)
    assert found["clock"].fleet.workers == 1
    assert not found["clock"].command.overlap, "two in a slot would want the same port"
    assert found["clock"].listen.bind == ()
    assert found["web"].command.command == ("serve",)


def test_what_is_said_of_an_application_is_not_for_programs(tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text("""
app = "shop:app"
preload = "never"
max_workers = 4
hang_timeout = 9
graceful_timeout = 7

[group.job]
command = "work"
""")
    found = load_groups({}, USER, tmp_path)
    assert found["web"].app.preload == "never"
    assert found["job"].app.preload == "auto"
    assert found["job"].fleet.graceful_timeout == 7
    assert found["web"].fleet.max_workers == 4
    assert found["job"].fleet.max_workers == 0
    assert found["job"].vitals.hang_timeout == found["web"].vitals.hang_timeout + 21


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("singleton = true\nprocesses = 2", "job is a singleton and cannot have 2 processes"),
        ("max_requests = 5", "max_requests: is for groups that serve an application"),
        ('readiness = "soon"', "'soon' is no readiness"),
        ('readiness = "line:"', "'line:' is no readiness"),
        ('readiness = "line:("', "not a regular expression"),
    ],
)
def test_settings_of_a_program_that_cannot_be(tmp_path: Path, lines: str, complaint: str) -> None:
    (tmp_path / "clusterd.toml").write_text(f'[group.job]\ncommand = "work"\n{lines}\n')
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        load_groups({}, USER, tmp_path)
