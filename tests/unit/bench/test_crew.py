"""Generators are started with their share, heard together, and none is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusterd.bench.crew import PLAIN_RATE, Crew, more, processes, share
from clusterd.bench.errors import GeneratorFailed, Unreachable
from clusterd.bench.interval import Interval
from clusterd.bench.load import SSE, Load, Target
from clusterd.bench.results import GeneratorUse, Turn
from tests.support.processes import left

# A generator that drives nothing: each interval has as many requests as it has connections. What
# else it does is in the target's path.
FAKE = """
import os, sys
from clusterd.bench.interval import INTERVAL, Interval
from clusterd.bench.orders import STOP, Connected, Done, Failed, Order, say, told
order = Order.read(sys.stdin.buffer.readline())
manner = order.target.path
def tell(what):
    os.write(1, say(what))
if manner == "/refused":
    tell(Failed("connect", "nobody listens there"))
    sys.exit()
if manner == "/broken":
    sys.exit("a line of its own\\nKeyError: 'what it was'")
if manner == "/deaf":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(Connected(0))
    while True:
        signal.pause()
tell(Connected(order.load.connections))
line = sys.stdin.buffer.readline()
if told(line):
    if manner == "/slow":
        sys.stdin.buffer.readline()
    whole = int(order.load.duration / INTERVAL)
    for number in range(whole):
        made = Interval(number, requests=order.load.connections, latency={1000: number + 1})
        if manner == "/dies" and number == 1 and order.seed:
            os.write(1, say(made)[:20])
            sys.exit("killed by a test")
        tell(made)
    tell(Done(sent=whole, unanswered=1, texts={"reset": f"seed {order.seed}"}))
"""
TARGET = Target("http", "127.0.0.1", 9)


def command() -> list[str]:
    return [sys.executable, "-c", FAKE]


@contextmanager
def crewed(path: str = "/", count: int = 2, load: Load | None = None) -> Iterator[Crew]:
    target = Target("http", "127.0.0.1", 9, path)
    load = load or Load(connections=5, duration=1.0)
    with Crew(target, load, count, command=command()) as crew:
        yield crew


def heard(crew: Crew) -> list[tuple[int, Interval]]:
    """All intervals until the end."""
    found = []
    while not crew.done:
        found += crew.intervals(10.0)
    return found


def test_shares_add_up_and_differ_by_one_connection() -> None:
    load = Load(connections=10, rate=500.0, duration=3.0, slow=0.1)
    shares = share(load, 3)
    assert [one.connections for one in shares] == [4, 3, 3]
    assert sum(one.rate for one in shares) == pytest.approx(500.0)
    assert [one.rate for one in shares] == pytest.approx([200.0, 150.0, 150.0])
    assert {(one.duration, one.slow) for one in shares} == {(3.0, 0.1)}
    assert share(load, 1) == [load]


def test_no_process_is_without_a_connection() -> None:
    assert [one.connections for one in share(Load(connections=2), 5)] == [1, 1]
    assert [one.connections for one in share(Load(connections=0), 2)] == [0]


def test_one_generator_for_the_closed_loop_and_as_many_as_a_rate_needs() -> None:
    assert processes(Load(connections=64), 8) == 1
    assert processes(Load(connections=64, rate=PLAIN_RATE), 8) == 1
    assert processes(Load(connections=64, rate=PLAIN_RATE * 2.5), 8) == 3
    assert processes(Load(connections=64, rate=PLAIN_RATE * 2.5), 2) == 2
    assert processes(Load(connections=2, rate=PLAIN_RATE * 2.5), 8) == 2
    assert processes(Load(connections=64, rate=PLAIN_RATE, protocol=SSE), 8) > 1
    assert processes(Load(connections=64, rate=PLAIN_RATE, fresh=True), 8) > 1


def test_more_connections_than_one_may_have_open_take_more_processes() -> None:
    assert processes(Load(connections=150_000_000), 1) > 1


def test_more_generators_where_they_were_too_slow_and_cpus_are_there() -> None:
    def turn(busiest: float, shared: bool = False) -> Turn:
        use = GeneratorUse(processes=2, busiest=busiest, shared=shared)
        return Turn("one", 1, Load(connections=64), generator=use)

    assert more(turn(0.5), 8) == 2
    assert more(turn(0.99), 8) == 4
    assert more(turn(0.99), 3) == 3
    assert more(turn(0.99), 1) == 2  # never fewer
    assert more(turn(0.99, shared=True), 8) == 2  # it would take from the server
    assert more(turn(0.99, shared=True), 16) == 4


def test_all_are_heard_in_their_order_and_none_is_left() -> None:
    with crewed() as crew:
        pids = crew.pids
        assert crew.connect() == 5
        crew.go()
        found = heard(crew)
        assert crew.ends[0].texts == {"reset": "seed 0"}
        assert [end.unanswered for end in crew.ends] == [1, 1]
        assert crew.failures == []
    assert left(pids, 0) == []
    for index, requests in [(0, 3), (1, 2)]:
        own = [one for number, one in found if number == index]
        assert [one.number for one in own] == [0, 1, 2, 3]
        assert {one.requests for one in own} == {requests}
        assert own[3].latency == {1000: 4}


def test_a_terminal_s_signals_do_not_reach_them() -> None:
    with crewed("/slow") as crew:
        crew.connect()
        for pid in crew.pids:
            assert os.getsid(pid) == pid


def test_who_cannot_connect_says_why() -> None:
    with crewed("/refused") as crew:
        pids = crew.pids
        with pytest.raises(Unreachable, match="nobody listens there"):
            crew.connect()
    assert left(pids, 0) == []


def test_one_that_does_not_connect_in_time_is_unreachable() -> None:
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        Crew(TARGET, Load(), 1, command=silent) as crew,
        pytest.raises(Unreachable, match=r"127.0.0.1 port 9"),
    ):
        crew.connect(0.05)


def test_a_generator_that_cannot_even_begin_is_quoted() -> None:
    with (
        crewed("/broken") as crew,
        pytest.raises(GeneratorFailed, match="with 1: KeyError: 'what it was'"),
    ):
        crew.connect()


def test_one_that_dies_meanwhile_keeps_what_it_said_and_the_others_go_on() -> None:
    with crewed("/dies") as crew:
        crew.connect()
        crew.go()
        found = heard(crew)
        assert crew.over == [0, 1]
        assert crew.failures == [
            "a generator process ended before its time, with 1: killed by a test"
        ]
    assert [one.number for index, one in found if index == 0] == [0, 1, 2, 3]
    assert [one.number for index, one in found if index == 1] == [0]


def test_one_that_does_not_heed_the_end_of_its_stdin_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clusterd.bench.crew.STOP_LIMIT", 0.05)
    with crewed("/deaf", 1, Load(connections=1)) as crew:
        pids = crew.pids
        crew.connect()
    assert left(pids, 0) == []


def test_all_are_asked_to_end_early() -> None:
    with crewed("/slow") as crew:
        crew.connect()
        crew.go()
        crew.finish()
        assert len(heard(crew)) == 8


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_is_raised_leaves_none(error: type[BaseException]) -> None:
    with pytest.raises(error), crewed("/slow") as crew:
        pids = crew.pids
        crew.connect()
        raise error
    assert left(pids, 0) == []


def test_each_is_pinned_to_a_cpu_of_its_own_where_there_are_enough() -> None:
    said = """
import sys
from clusterd.bench.orders import Failed, Order, say
order = Order.read(sys.stdin.buffer.readline())
sys.stdout.buffer.write(say(Failed("", f"{order.cpus} {order.phase} {order.seed}")))
"""

    def told(cpus: tuple[int, ...]) -> set[str]:
        found: set[str] = set()
        with Crew(TARGET, Load(), 2, cpus, seed=7, command=[sys.executable, "-c", said]) as crew:
            while len(found) < 2:
                found |= {str(one.text) for _, one in crew._heard(10) if hasattr(one, "text")}
        return found

    assert told((4, 5, 6)) == {"(4,) 0.0 7", "(5,) 0.5 8"}
    assert told((4,)) == {"(4,) 0.0 7", "(4,) 0.5 8"}
    assert told(()) == {"() 0.0 7", "() 0.5 8"}


PARENT = """
import sys
from clusterd.bench.crew import Crew
from clusterd.bench.load import Load, Target
target = Target("http", "127.0.0.1", 9, "/slow")
with Crew(target, Load(connections=2), 2, command=[sys.executable, "-c", sys.argv[1]]) as crew:
    crew.connect()
    print(*crew.pids, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_with_their_parent_they_go(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, FAKE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.send_signal(number)
    assert left(pids) == []


def test_it_finds_clusterd_from_anywhere_and_nothing_shadows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's directory may have a select.py, and his PYTHONPATH may name it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((".", "", *sys.path)))
    (tmp_path / "select.py").write_text("raise SystemExit('the wrong select')")
    monkeypatch.chdir(tmp_path)
    with Crew(TARGET, Load(connections=1, timeout=0.1), 1) as crew:
        with pytest.raises(Unreachable):
            crew.connect()
        assert crew.failures == []
