"""A file with several groups: who takes what from where, and what is refused."""

from pathlib import Path

import pytest

from clusterd.config.resolve import load_groups
from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError


def read(
    place: Path, text: str, env: dict[str, str] | None = None, **cli: object
) -> dict[str, Config]:
    (place / "clusterd.toml").write_text(text)
    return load_groups(cli, env or {}, place)


WHOLE = """
app = "shop:app"
graceful_timeout = 9
log_level = "warning"

[web]
workers = 3

[group.api]
app = "api:app"
bind = "127.0.0.1:9000"
after = ["cron"]

[group.cron]
command = "run-cron --every '1 hour'"
processes = 2
environment = { TZ = "UTC", LEVEL = 3 }
graceful_timeout = "1m"
"""


def test_each_group_has_its_own_and_takes_the_rest_from_the_top(tmp_path: Path) -> None:
    groups = read(tmp_path, WHOLE)
    web, api, cron = groups["web"], groups["api"], groups["cron"]
    assert (web.app.app, web.fleet.workers, web.fleet.graceful_timeout) == ("shop:app", 3, 9)
    assert (api.app.app, api.fleet.workers, api.fleet.graceful_timeout) == ("api:app", 1, 9)
    assert (cron.app.app, cron.fleet.workers, cron.fleet.graceful_timeout) == ("", 2, 60)
    assert cron.command.command == ("run-cron", "--every", "1 hour")
    assert cron.command.environment == ("TZ=UTC", "LEVEL=3")
    assert [c.listen.bind for c in (web, api, cron)] == [
        ("127.0.0.1:8000",),
        ("127.0.0.1:9000",),
        (),
    ]
    assert {c.log.log_level for c in groups.values()} == {"warning"}


@pytest.mark.parametrize("text", ['workers = "many"\n[web]\nworkers = 2\n'])
def test_a_wrong_value_at_the_top_is_refused_though_a_table_overrules_it(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(ConfigError, match=r"^clusterd\.toml workers: 'many' is not allowed"):
        read(tmp_path, text, app="shop:app")


def test_those_that_others_wait_for_come_first(tmp_path: Path) -> None:
    names = list(read(tmp_path, WHOLE))
    assert names.index("cron") < names.index("api")


def test_the_command_line_speaks_of_web_and_of_what_is_for_all(tmp_path: Path) -> None:
    env = {"CLUSTERD_WORKERS": "5", "CLUSTERD_LOG_LEVEL": "error"}
    groups = read(tmp_path, WHOLE, env, graceful_timeout="2s")
    assert [groups[name].fleet.workers for name in ("web", "api", "cron")] == [5, 1, 2]
    assert groups["web"].fleet.graceful_timeout == 2
    assert groups["api"].fleet.graceful_timeout == 9
    assert {c.log.log_level for c in groups.values()} == {"error"}


def test_programs_alone_need_no_application(tmp_path: Path) -> None:
    groups = read(tmp_path, '[group.worker]\ncommand = ["work", "hard"]\n')
    assert list(groups) == ["worker"]
    assert groups["worker"].command.command == ("work", "hard")


def test_web_may_be_a_program_too(tmp_path: Path) -> None:
    groups = read(tmp_path, '[web]\ncommand = "serve"\nbind = "127.0.0.1:9000"\n')
    assert groups["web"].listen.bind == ("127.0.0.1:9000",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[web]\nwrkers = 2",
            r"clusterd.toml \[web\]: 'wrkers' is no setting; did you mean workers",
        ),
        (
            '[group.a]\ncommand = "x"\nlog_level = "info"',
            "log_level is for all groups: write it at",
        ),
        ('[group.a]\ncommand = "x"\nkeep_alive = 1', "keep_alive is for groups that serve an app"),
        (
            '[group.a]\napp = "a:b"\nbind = "9"\nsingleton = true',
            "singleton is for groups that run",
        ),
        ('command = "x"', "command is for groups that run a command"),
        ("[group.a]\nworkers = 2", "the group a needs an app or a command"),
        ('[group.a]\napp = "a:b"\ncommand = "x"', "app is for groups that serve an application"),
        ('[group.a]\napp = "a:b"', "the group a has no address"),
        ('[group."a b"]\ncommand = "x"', "'a b' is no name of a group"),
        ("group = 3", "groups are written as"),
        ('[group.a]\ncommand = "it\'s"', "is no command: No closing quotation"),
        ('[group.a]\ncommand = "x"\nenvironment = { A = [1] }', "is no value of a variable"),
        (
            '[group.a]\ncommand = "x"\nafter = "b"',
            "a is to start after 'b', and there is no such group",
        ),
        ('[web]\nworkers = 2\n[group.a]\ncommand = "x"', "the group web needs an app"),
        ('[web]\napp = "a:b"\n[group.web]\napp = "a:b"', "are the same group"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        read(tmp_path, text)


def test_a_user_on_the_command_line_is_that_of_every_group(tmp_path: Path) -> None:
    """No table of a file makes another of it; one at the top or in the environment yields."""
    text = (
        'user = "top"\n[web]\nuser = "daemon"\n'
        '[group.a]\ncommand = "a"\nuser = "root"\n[group.b]\ncommand = "b"\n'
    )
    names = ("web", "a", "b")
    cases: list[tuple[dict[str, str], dict[str, str], list[str]]] = [
        ({}, {}, ["daemon", "root", "top"]),
        ({"CLUSTERD_USER": "env"}, {}, ["env", "root", "env"]),
        ({"CLUSTERD_USER": "env"}, {"user": "typed"}, ["typed"] * 3),
    ]
    for env, cli, users in cases:
        groups = read(tmp_path, text, env, app="shop:app", **cli)
        assert [groups[name].limits.user for name in names] == users
    only = '[web]\ncommand = "serve"\nuser = "root"\n'
    assert read(tmp_path, only, user="typed")["web"].limits.user == "typed"
