"""What a command line of `clusterd bench` comes to, and each slip: one sentence, and status 4."""

import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from clusterd.bench.chaos import Havoc
from clusterd.bench.ladders import Connections, Fixed, Highest
from clusterd.bench.load import SSE, WEBSOCKET
from clusterd.cli import bench_plan
from clusterd.cli.bench import bench, compare
from clusterd.cli.bench_options import PASSED
from clusterd.cli.bench_plan import Asked
from clusterd.cli.main import run
from clusterd.core.errors import ConfigError

APP = "clusterd.demo:app"
URL = "http://127.0.0.1:8000/"


@pytest.fixture(autouse=True)
def _place(place: Path) -> None:
    """Be in an empty directory."""


def plan(line: str) -> Asked:
    """As the command does it; nothing is started."""
    context = bench.make_context("bench", shlex.split(line))
    asked: dict[str, Any] = {**context.params}
    target = asked.pop("target")
    return bench_plan.plan(target, asked, context.meta.get(PASSED, []))


def names(asked: Asked) -> list[str]:
    return [side.name for side in asked.sides]


def test_an_application_is_one_worker_against_more() -> None:
    asked = plan(f"{APP} -w 1,3")
    assert names(asked) == ["1 worker", "3 workers"]
    assert [side.workers for side in asked.sides] == [1, 3]
    assert len({side.command for side in asked.sides}) == 1  # the same server
    assert asked.cluster is not None
    assert asked.plan == Fixed((asked.load,))
    assert (asked.load.connections, asked.load.duration, asked.load.rate) == (64, 10.0, 0.0)
    assert asked.turns == 4
    assert asked.stem is not None
    assert asked.stem.name.startswith("clusterd-bench-2")


def test_a_number_of_workers_is_a_side_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_plan, "available_cpus", lambda: 2)
    monkeypatch.setattr(bench_plan, "cores", lambda: ((0,), (1,)))
    assert names(plan(f"{APP} -w 2,auto")) == ["2 workers"]
    assert names(plan(APP)) == ["1 worker", "2 workers"]


def test_a_large_machine_spares_some_for_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_plan, "available_cpus", lambda: 16)
    monkeypatch.setattr(bench_plan, "cores", lambda: tuple((cpu,) for cpu in range(16)))
    assert names(plan(APP)) == ["1 worker", "12 workers"]


def test_a_url_is_one_side_that_is_not_started() -> None:
    asked = plan(f"{URL}page --path /other -c 2")
    assert asked.url is not None
    assert asked.cluster is None
    assert [(side.name, side.command) for side in asked.sides] == [(URL + "page", "")]
    assert "workers" not in asked.settings


def test_others_stand_beside_it_with_as_many_workers() -> None:
    asked = plan(
        f"{APP} -w 1,2 --against 'uvicorn={{python}} -m uvicorn {{app}} --port {{port}} "
        "--workers {workers}' --against 'node server.js {port}' "
        "--against '{python} -m granian {app} --port {port}'"
    )
    assert names(asked)[2:] == ["uvicorn, 1 worker", "uvicorn, 2 workers", "node", "granian"]
    assert asked.sides[2].command == asked.sides[3].command
    assert asked.sides[4].command == "node server.js {port}"


def test_the_value_of_an_option_does_not_name_a_server() -> None:
    other = plan(f"{APP} -w 1 --against 'gunicorn --bind=:{{port}} {{app}}'").sides[1]
    assert (other.name, other.command) == ("gunicorn", "gunicorn --bind=:{port} {app}")


def test_what_follows_two_dashes_is_for_the_cluster() -> None:
    asked = plan(f"{APP} -w 1 -- --threads 3")
    assert asked.cluster is not None
    assert asked.cluster.config.wsgi.threads == 3
    assert asked.settings["clusterd run"] == "--threads 3"


def test_rates_are_taken_one_after_the_other() -> None:
    asked = plan(f"{URL} --rate 1k,2k")
    assert isinstance(asked.plan, Fixed)
    assert [load.rate for load in asked.plan.loads] == [1000.0, 2000.0]
    assert asked.turns == 4


def test_ladders_and_targets() -> None:
    assert plan(f"{URL} --ladder 1..4096").plan == Connections(plan(URL).load, 1, 4096)
    asked = plan(f"{URL} --slo p99<50ms --slo 'errors<1%'")
    assert isinstance(asked.plan, Highest)
    assert [condition.text for condition in asked.slo] == ["p99<50ms", "errors<1%"]
    assert asked.turns == 0  # that depends


def test_what_is_sent() -> None:
    load = plan(f"{URL} -X PUT -H 'X-A: b' --body abc --fresh --slow 3% --timeout 2s").load
    request = load.requests[0]
    assert (request.method, request.body) == ("PUT", b"abc")
    assert ("X-A", "b") in request.headers
    assert (load.fresh, load.slow, load.timeout) == (True, 0.03, 2.0)
    assert plan(f"{URL} --websocket --message 1KiB").load.message == 1024
    assert plan("ws://127.0.0.1:1/").load.protocol == WEBSOCKET
    assert plan(f"{URL} --sse").load.protocol == SSE


def test_chaos() -> None:
    asked = plan(f"{APP} --kill-every 2s --reload-every 5s --broken-deploy")
    assert asked.havoc == Havoc(2.0, 5.0, True)
    assert asked.cluster is not None
    assert "clusterd.bench.shim:app" in asked.cluster.command
    assert asked.settings["kill-every"] == "2.0s"


def test_more_connections_than_the_settings_let_in_are_told() -> None:
    """The default max_connections is 1000 a worker."""
    assert not plan(f"{APP} -w 1,2 -c 1000").notes
    (note,) = plan(f"{APP} -w 1,2 --ladder 1..2000").notes
    assert "only 1 worker" in note
    assert not plan(f"{APP} -w 2 -c 2000").notes
    assert not plan(f"{APP} -w 1 -c 2000 -- --max-connections 2000").notes
    assert not plan(f"{URL} -c 5000").notes


def test_reports(tmp_path: Path) -> None:
    assert plan(f"{URL} --no-report").stem is None
    assert plan(f"{URL} --report {tmp_path}/a.html").stem == tmp_path / "a"
    assert plan(f"{URL} --report v1.2").stem == Path("v1.2")
    assert plan(f"{URL} --pictures shots").pictures == Path("shots")


def test_a_directory_takes_reports_of_the_usual_name(tmp_path: Path) -> None:
    stem = plan(f"{URL} --report {tmp_path}").stem
    assert stem is not None
    assert stem.parent == tmp_path
    assert stem.name.startswith("clusterd-bench-2")


def test_settings_say_what_was_resolved() -> None:
    shown = plan(f"{URL} -c 8 -d 2s --rate 50 -H 'A: b' --insecure --fail-on 'errors>0'").settings
    assert shown == {
        "rounds": "2",
        "duration": "2.0s",
        "connections": "8",
        "rate": "50",
        "pipeline": "1",
        "timeout": "10s",
        "header": "A: b",
        "insecure": "yes",
        "fail-on": "errors>0",
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "missing argument"),
        (f"{APP} {APP}", "unexpected extra argument"),
        (f"{APP} --rat 5", "no such option"),
        (f"{URL} --rate 5 --slo p99<1s", "--slo and --rate exclude each other"),
        (f"{URL} --ladder 1..9 --slo p99<1s", "--slo and --ladder exclude each other"),
        (f"{URL} --ladder 1..9 --rate 1,2", "--ladder takes one --rate"),
        (f"{URL} --pipeline 4 --rate 9", "--pipeline and --rate exclude each other"),
        (f"{URL} --pipeline 4 --fresh", "--pipeline and --fresh exclude each other"),
        (f"{URL} --websocket --sse", "--websocket and --sse exclude each other"),
        ("ws://localhost --fresh", "--fresh and --websocket exclude each other"),
        ("ws://localhost --slow 3%", "--slow and --websocket exclude each other"),
        (f"{URL} --sse --slow 3%", "--slow and --sse exclude each other"),
        (f"{URL} --body a --body-file b", "--body and --body-file exclude each other"),
        (f"{URL} --report a --no-report", "--report and --no-report exclude each other"),
        (f"{URL} --kill-every 1s", "was not started by the benchmark"),
        (f"{URL} -- --threads 2", "is for 'clusterd run'"),
        (f"{URL} --app-dir src", "--app-dir is for an application"),
        (f"{APP} --insecure", "--insecure is for a URL"),
        ("127.0.0.1:8000/x", "it has no scheme"),
        ("ftp://a/", "the scheme is 'ftp'"),
        (f"{APP} -- --thraeds 2", "clusterd run: no such option"),
        (f"{APP} -- --threads no", "no"),
        ("no/module.py:app", "is a file"),
        (f"{APP} --against 'node server.js'", "does not say {port}"),
        (f"{APP} --against ''", "there is no command"),
        (f'{APP} --against "a \'b"', "is no command"),
        (f'{APP} --against "x=a \'b {{port}}"', "is no command"),
        (f"{APP} --against 'a {{port}}' --against 'b/a {{port}}'", "two sides are called 'a'"),
        (f"{URL} --slo fast", "'fast' is no condition"),
        (f"{URL} --fail-on p99", "'p99' is no condition"),
        (f"{URL} --slo 'p99>50ms'", "slow server"),
        (f"{URL} --slo 'errors<1%'", "bounds no latency"),
        (f"{URL} -H nothing", "header"),
        (f"{URL} --slow 300%", "a share from 0% to 100%"),
        (f"{URL} -d 0", "allowed: 10s, 500ms or 2m"),
        (f"{URL} --paths nowhere.txt", "nowhere.txt"),
        (f"{URL} --body-file nowhere.bin", "nowhere.bin"),
        (f"{URL} --report nowhere/a", "there is no directory nowhere"),
    ],
)
def test_slips(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["bench", *shlex.split(line)])
    told = capsys.readouterr()
    text = " ".join(told.err.split())
    assert said.lower() in text.lower(), told
    assert status == (1 if "nowhere/a" in line else 4)
    assert "Traceback" not in told.err
    assert not told.out


def test_the_extra_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("clusterd.cli.bench.NEEDED", ("hdrh", "no_such_package"))
    for words in (["bench", URL], ["bench", "compare", "a", "b"]):
        assert run(words) == 4
        assert capsys.readouterr().err.splitlines() == [
            "clusterd: bench: no_such_package is not installed",
            "pip install 'clusterd[bench]'",
        ]


def test_compare_takes_two_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "compare", "a.json"]) == 4
    assert "clusterd bench compare" in capsys.readouterr().err
    assert run(["bench", "compare", "a.json", "b.json"]) == 4
    assert "a.json" in capsys.readouterr().err
    assert isinstance(compare, click.Command)


def test_the_error_of_a_plan_has_a_remedy() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(f"{URL} --kill-every 1s")
    assert caught.value.remedy
