"""One worker against many: what is asked, what is judged, and what is not claimed."""

import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import bench, chart, report, servers, workloads
from benchmarks.bench import Efficiency, Model, Ran, Turn
from benchmarks.environment import Environment
from benchmarks.outcome import Outcome
from benchmarks.scenarios import ALL, cluster
from benchmarks.session import Session

HELLO, CPU5 = (
    next(row for row in workloads.TABLE if row.name == name) for name in ("hello", "cpu5")
)


def session(smoke: bool = False) -> Session:
    only = (servers.CLUSTERD.name,) if smoke else ()
    return Session(Environment("python", {}), only, rounds=None, smoke=smoke)


def turn(
    workers: int, throughput: float, cpu: float, failed: int = 0, shared: bool = False
) -> Turn:
    side = f"{workers} worker{'s' * (workers > 1)}"
    requests = round(throughput)
    doubts = ["the generator was busy"] if shared else []
    return Turn(
        side, workers, throughput, cpu, 1.0, 2.0, requests, failed, 50.0, shared, doubts, 9.0, None
    )


def ran(*turns: Turn, model: Model | None = None) -> Ran:
    efficiency = {2: Efficiency(by_throughput=0.93, by_cpu=0.97)}
    ours = list(dict.fromkeys(one.side for one in turns))
    return Ran(list(turns), ours, efficiency, 0.98, 0.96, model)


def judged(*pairs: tuple[cluster.Plan, Ran], counts: tuple[int, ...] = (1, 2)) -> Outcome:
    outcome = Outcome(cluster.UNITS)
    results = [(plan, cluster._noted(session(), outcome, plan, seen)) for plan, seen in pairs]
    cluster._judge(outcome, results, counts)
    return outcome


def plan(row: workloads.Workload, target: str = workloads.ASGI) -> cluster.Plan:
    return cluster.Plan(row, target, (1, 2), 1, 0.5)


def test_every_workload_is_run_and_what_is_judged_or_shown_several_times() -> None:
    plans = list(cluster.plans(session(), (1, 2)))
    asgi = [one.row.name for one in plans if one.target == workloads.ASGI]
    assert asgi == [row.name for row in workloads.TABLE]
    wsgi = [one.row.name for one in plans if one.target == workloads.WSGI]
    assert wsgi == [row.name for row in workloads.TABLE if row.wsgi]
    several = {one.row.name for one in plans if one.rounds > 1}
    assert several == {row.name for row in workloads.TABLE if row.judged} | {"mixed-rate"}
    assert {one.row.name for one in plans if one.peers} == {"hello"}


def test_a_smoke_run_has_every_workload_in_a_tiny_form() -> None:
    plans = list(cluster.plans(session(smoke=True), (1, 2)))
    assert {one.row.name for one in plans} == {row.name for row in workloads.TABLE}
    assert {workloads.ASGI, workloads.WSGI} == {one.target for one in plans}
    assert {(one.rounds, one.seconds, one.peers) for one in plans} == {(1, cluster.TINY, ())}


def test_a_peer_is_asked_for_the_app_as_the_benchmark_names_it(tmp_path: Path) -> None:
    """There {app} is `work:app`, here a module."""
    asked = cluster.Plan(HELLO, workloads.ASGI, (1, 2), 3, 2.5, (servers.UVICORN,))
    words = asked.options(tmp_path)
    assert words[:6] == ["--workers", "1,2", "--rounds", "3", "--duration", "2.5s"]
    against = words[words.index("--against") + 1]
    assert against.startswith("uvicorn={python} -m uvicorn {app} --port {port} ")
    assert ":app" not in against


def test_hello_is_judged_by_cpu_time_and_cpu5_by_throughput() -> None:
    """Where the generator shares the cores, throughput is not the server's alone."""
    turns = (turn(1, 100.0, 10.0), turn(2, 180.0, 10.5))
    outcome = judged((plan(HELLO), ran(*turns)), (plan(CPU5), ran(*turns)))
    found = {figure.what: figure for figure in outcome.figures if figure.target is not None}
    names = ["hello, 2 workers against 1", "cpu5, 2 workers against 1", "failed requests"]
    assert [name.split(":")[0].split(" of ")[0] for name in found] == names
    hello, cpu5, failed = found.values()
    assert (hello.value, hello.target, hello.reached) == (0.97, 0.95, True)
    assert (cpu5.value, cpu5.target, cpu5.reached) == (0.93, 0.9, True)
    assert (failed.value, failed.exact) == (0, True)


def test_a_failed_request_is_a_failure_of_the_whole() -> None:
    """So that a smoke run ends with status 1."""
    turns = (turn(1, 100.0, 10.0), turn(2, 180.0, 10.5, failed=1))
    outcome = judged((plan(HELLO), ran(*turns)))
    assert [figure.reached for figure in outcome.figures if figure.exact] == [False]


def test_two_cores_claim_no_law_of_scaling() -> None:
    turns = (turn(1, 100.0, 10.0, shared=True), turn(2, 180.0, 10.5, shared=True))
    notes = "\n".join(judged((plan(HELLO), ran(*turns))).notes)
    assert "workers: 1, 2; a fit of the Universal Scalability Law needs 3 worker counts" in notes
    assert "all runs: the generator was busy" in notes


def test_a_doubt_is_noted_once_with_whose_it_is() -> None:
    """Most are those of the machine, and the same in every run."""
    doubted, fine = ran(turn(1, 100.0, 10.0, shared=True)), ran(turn(1, 100.0, 10.0))
    both = plan(HELLO, workloads.ASGI), plan(HELLO, workloads.WSGI)
    outcome = judged((both[0], doubted), (both[1], doubted), (plan(CPU5), fine))
    doubts = [note for note in outcome.notes if "busy" in note]
    assert doubts == ["hello, ASGI; hello, WSGI: the generator was busy"]
    fine.turns[0].doubts.append("only 1,200 were measured")
    doubted.turns[0].doubts.append("only 34.5 were measured")
    outcome = judged((both[0], doubted), (plan(CPU5), fine))
    assert "all runs: only 34.5 were measured (the first of 2 alike)" in outcome.notes


def test_more_cores_say_how_throughput_grows_and_how_sure_that_is() -> None:
    turns = [turn(count, 100.0 * count, 10.0) for count in (1, 2, 3)]
    fitted = ran(*turns, model=Model(101.0, 0.02, 0.0003, 0.015))
    notes = "\n".join(judged((plan(HELLO), fitted), counts=(1, 2, 3)).notes)
    assert "over 1, 2, 3 workers: 101/s of one, contention 0.02, crosstalk 0.0003" in notes
    assert "off the points by 1.5%" in notes
    exact = ran(*turns, model=Model(101.0, 0.02, 0.0003, None))
    notes = "\n".join(judged((plan(HELLO), exact), counts=(1, 2, 3)).notes)
    assert "its error is not known" in notes
    assert "needs 3 worker counts" not in notes


def test_pictures_are_recorded_beside_the_result(tmp_path: Path) -> None:
    outcome = judged((plan(HELLO), ran(turn(1, 100.0, 10.0), turn(2, 180.0, 10.5))))
    cluster._pictures(outcome, [(plan(HELLO), ran(turn(1, 100.0, 10.0), turn(2, 180.0, 10.5)))])
    report.record("cluster", outcome, Environment("python", {}), {"cores": 2}, tmp_path)
    report.write_page(ALL, tmp_path)
    assert "1.80 ×" in (tmp_path / "cluster-speedup.svg").read_text()
    assert "](cluster-speedup.svg)" in (tmp_path / report.PAGE).read_text()


def test_the_chart_says_in_words_what_it_shows() -> None:
    """Names are text and not markup; a picture may be read aloud."""
    drawn = ElementTree.fromstring(chart.speedups({"a<b": 1.5, "c": 2.25}, 2))
    texts = [element.text for element in drawn.iter() if element.tag.endswith("}text")]
    assert {"a<b", "c", "1.50 ×", "2.25 ×"} <= set(texts)
    title = next(element.text for element in drawn.iter() if element.tag.endswith("}title"))
    assert title == "Throughput of 2 workers, times that of one: a<b 1.50; c 2.25"


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    """A smoke run must not pass with a report that nobody can read again."""
    path = tmp_path / "report.json"
    path.write_text("{}")
    with pytest.raises(ChildProcessError, match="cannot be read"):
        bench.read(sys.executable, path)


def test_a_run_that_fails_says_what_it_printed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import sys; sys.exit('no such app')"]
    with pytest.raises(ChildProcessError, match="ended with 1: no such app"):
        bench._finish(command, dict(os.environ), log, 30)


def test_a_run_that_hangs_is_told_to_stop(tmp_path: Path) -> None:
    """By SIGINT, on which `clusterd bench` reports and takes its servers with it."""
    log = tmp_path / "log"
    code = "import signal; signal.sigwait({signal.SIGINT}); print('told')"
    # Inherited: it waits for the child to be ready for it, however soon it comes.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            bench._finish([sys.executable, "-c", code], dict(os.environ), log, 0.01)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    assert log.read_text() == "told\n"
