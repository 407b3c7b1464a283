"""Settings of jobs: their tables, the groups that come of them, and what all processes are told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.resolve import load_groups
from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError

HOME = {"HOME": "/home/ann", "RUNTIME_DIRECTORY": "/run/shop"}
FILE = """
app = "shop.main:app"
graceful_timeout = 9

[jobs]
app = "shop.jobs:jobs"
workers = 2
concurrency = 4
queues = ["high", "default"]
store = "sqlite:state/jobs.db"
max_memory = "300M"

[jobs.video]
queues = ["video"]
workers = 1
environment = { THREADS = 2 }
"""


def read(place: Path, text: str, env: Mapping[str, str] = HOME, **cli: object) -> dict[str, Config]:
    (place / "clusterd.toml").write_text(text)
    return load_groups(cli, env, place)


def variables(config: Config) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in config.command.environment)


def refusal(place: Path, text: str, **cli: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(place, text, **cli)
    return caught.value.message


def test_tables_of_jobs_are_groups_and_take_the_rest_from_the_top(tmp_path: Path) -> None:
    groups = read(tmp_path, FILE)
    assert set(groups) == {"web", "jobs", "jobs-video", "@scheduler"}
    jobs, video = groups["jobs"], groups["jobs-video"]
    assert (jobs.app.app, jobs.app.interface, jobs.listen.bind) == ("shop.jobs:jobs", "asgi", ())
    assert (jobs.fleet.workers, jobs.fleet.graceful_timeout) == (2, 9.0)
    assert jobs.vitals.max_memory == 300 * 2**20
    assert (video.app.app, video.fleet.workers) == ("shop.jobs:jobs", 1)
    assert video.vitals.max_memory == 300 * 2**20  # from [jobs]
    assert groups["web"].vitals.max_memory == 0


def test_all_processes_find_the_store_and_job_workers_their_queues(tmp_path: Path) -> None:
    groups = read(tmp_path, FILE)
    url = f"sqlite:{tmp_path}/state/jobs.db"
    assert {variables(config)["CLUSTERD_JOBS_STORE"] for config in groups.values()} == {url}
    jobs = variables(groups["jobs"])
    assert jobs["CLUSTERD_JOBS_QUEUES"] == "high,default"
    assert jobs["CLUSTERD_JOBS_CONCURRENCY"] == "4"
    video = variables(groups["jobs-video"])
    assert (video["CLUSTERD_JOBS_QUEUES"], video["THREADS"]) == ("video", "2")
    assert "CLUSTERD_JOBS_QUEUES" not in variables(groups["web"])


def test_options_make_a_job_group_too_with_or_without_a_web_application(tmp_path: Path) -> None:
    told: dict[str, Any] = {"jobs": "shop.jobs:jobs", "jobs_workers": "3", "graceful_timeout": "4"}
    alone = read(tmp_path, "", **told)
    assert set(alone) == {"jobs", "@scheduler"}
    assert (alone["jobs"].fleet.workers, alone["jobs"].fleet.graceful_timeout) == (3, 4.0)
    both = read(tmp_path, "", app="shop.main:app", **told)
    assert set(both) == {"web", "jobs", "@scheduler"}
    over = read(tmp_path, FILE, **told)
    assert (over["jobs"].fleet.workers, over["jobs-video"].fleet.workers) == (3, 1)
    assert variables(over["jobs-video"])["CLUSTERD_JOBS_QUEUES"] == "video"


def test_a_factory_may_make_the_jobs(tmp_path: Path) -> None:
    jobs = read(tmp_path, "", jobs="shop.jobs:make()")["jobs"]
    assert (jobs.app.app, jobs.app.factory) == ("shop.jobs:make", True)


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({}, "/home/ann/.local/state/clusterd/shop/jobs.sqlite3"),
        ({"XDG_STATE_HOME": "/state"}, "/state/clusterd/shop/jobs.sqlite3"),
        ({"STATE_DIRECTORY": "/var/lib/shop:/var/lib/b"}, "/var/lib/shop/jobs.sqlite3"),
        ({"CLUSTERD_JOBS_STORE": "sqlite:///data/j.db?synchronous=full"}, None),
    ],
)
def test_the_store_has_a_place_where_none_is_named(
    env: dict[str, str], url: str | None, tmp_path: Path
) -> None:
    jobs = read(tmp_path, "", HOME | env, jobs="shop:jobs")["jobs"]
    wanted = f"sqlite:{url}" if url else "sqlite:/data/j.db?synchronous=full"
    assert jobs.jobs.jobs_store == wanted


def test_applications_share_no_store_that_they_do_not_name(tmp_path: Path) -> None:
    """Neither without a name, nor where the same module is in both: the name tells them apart."""
    stores = [
        read(tmp_path, settings, HOME, jobs=jobs)["jobs"].jobs.jobs_store
        for settings, jobs in (
            ("", "shop:jobs"),
            ("", "blog.jobs:jobs"),
            ('name = "a"', "shop:jobs"),
            ('name = "b"', "shop:jobs"),
        )
    ]
    below = "sqlite:/home/ann/.local/state/clusterd"
    assert stores == [f"{below}/{name}/jobs.sqlite3" for name in ("shop", "blog.jobs", "a", "b")]


def test_a_store_in_the_environment_asks_for_no_job_workers(tmp_path: Path) -> None:
    """It is there for scripts, too."""
    groups = read(tmp_path, "", HOME | {"CLUSTERD_JOBS_STORE": "sqlite:/x.db"}, app="shop:app")
    assert set(groups) == {"web"}


@pytest.mark.parametrize(
    ("top", "given", "told"),
    [
        ("", "redis://h/2", "redis://h/2?namespace=n"),
        ("name = 'shop'", "rediss://u:p@h", "rediss://u:p@h?namespace=n&application=shop"),
        ("", "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1&namespace=n"),
        ("", "redis://h?namespace=own", "redis://h?namespace=own"),
    ],
)
def test_a_server_is_told_with_the_namespace_and_the_application(
    top: str, given: str, told: str, tmp_path: Path
) -> None:
    text = f"{top}\n[jobs]\napp = 'a:b'\nstore = '{given}'\nnamespace = 'n'"
    groups = read(tmp_path, text)
    assert {variables(config)["CLUSTERD_JOBS_STORE"] for config in groups.values()} == {told}


def test_the_name_of_the_cluster_is_the_namespace_where_none_is_given(tmp_path: Path) -> None:
    groups = read(tmp_path, "name = 'shop'\n[jobs]\napp = 'a:b'\nstore = 'redis://h'")
    assert groups["jobs"].jobs.jobs_store == "redis://h?namespace=shop&application=shop"


def test_the_scheduler_has_the_store_and_the_user_of_the_job_workers(tmp_path: Path) -> None:
    groups = read(tmp_path, FILE + "[jobs.b]\n", user="ann")
    scheduler = groups["@scheduler"]
    assert scheduler.limits.user == "ann"
    assert (scheduler.fleet.workers, scheduler.listen.bind) == (1, ())
    assert scheduler.vitals.hang_timeout == 8.0
    assert variables(scheduler)["CLUSTERD_CONTROL"].endswith("/clusterd.sock")
    assert variables(scheduler)["CLUSTERD_JOBS_STORE"] == groups["jobs"].jobs.jobs_store


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("jobs = 'a:b'", "clusterd.toml: jobs is no table: settings of jobs are written in [jobs]"),
        ("[jobs]\nworkers = 2", "there are settings of jobs, and no jobs are named"),
        (
            "[jobs]\napp = 'a:b'\nqueue = 'x'",
            "clusterd.toml [jobs]: 'queue' is no setting of jobs; did you mean queues?",
        ),
        (
            "[jobs]\napp = 'a:b'\nstore = 'mysql://db/x'",
            "clusterd.toml [jobs] store: mysql:… is no store of jobs",
        ),
        (
            "[jobs]\napp = 'a:b'\nbind = ':80'",
            "clusterd.toml [jobs]: bind is for groups that serve an application, and this one runs "
            "jobs",
        ),
        (
            "[jobs]\napp = 'a:b'\n[jobs.c]\nstore = 'sqlite:x'",
            "clusterd.toml [jobs.c]: store is for all jobs: write it in [jobs]",
        ),
        (
            "[jobs]\napp = 'a:b'\n[jobs.c]\nnamespace = 'x'",
            "clusterd.toml [jobs.c]: namespace is for all jobs: write it in [jobs]",
        ),
        (
            "[jobs]\napp = 'a:b'\nstore = 'redis://:secret@db'",
            "clusterd.toml [jobs] store: jobs on a server need a namespace, which keeps the jobs "
            "of applications apart",
        ),
        (
            "[jobs]\napp = 'a:b'\n[group.jobs]\ncommand = 'x'",
            "clusterd.toml: the group jobs runs jobs, and [group.jobs] is another",
        ),
        (
            "jobs_store = 'sqlite:x'",
            "clusterd.toml: jobs_store is written as store in [jobs]",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, line: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, text) == line


def test_where_rights_are_given_up_the_store_must_be_named(tmp_path: Path) -> None:
    """Its default is a directory of the user who starts, where the workers' user may not write."""
    line = refusal(tmp_path, "", jobs="a:b", user="ann")
    assert line == "jobs need a place where ann may write, and none is named"
