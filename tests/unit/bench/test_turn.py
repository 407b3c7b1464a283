"""One turn, with a small server and real generators."""

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusterd.bench.errors import ServerFailed, Unreachable
from clusterd.bench.interval import INTERVAL
from clusterd.bench.load import Load, Target
from clusterd.bench.places import Places
from clusterd.bench.results import Event, Moment, Side, Turn
from clusterd.bench.server import Server
from clusterd.bench.turn import take
from tests.support.processes import left

# Two workers behind one port: each uses 1 ms of CPU time a request, and writes down how many it
# has answered and what it has used when it ends. What dies is made anew.
APP = """
import os, selectors, signal, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
folder = sys.argv[2]
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"
def serve():
    served = 0
    def end(*_):
        with open(f"{folder}/{os.getpid()}", "w") as file:
            file.write(f"{served} {time.process_time()}")
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    selector = selectors.DefaultSelector()
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                try:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                except BlockingIOError:
                    pass
                continue
            try:
                asked = key.fileobj.recv(65536)
            except ConnectionError:
                asked = b""
            if not asked:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                continue
            until = time.thread_time() + 0.001
            while time.thread_time() < until:
                pass
            served += 1
            try:
                key.fileobj.send(ANSWER)
            except ConnectionError:
                pass
workers = []
def start():
    pid = os.fork()
    if pid == 0:
        serve()
    workers.append(pid)
def end(*_):
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    for pid in workers:
        os.waitpid(pid, 0)
    sys.exit(0)
start()
start()
signal.signal(signal.SIGTERM, end)
while True:
    pid, _ = os.wait()
    workers.remove(pid)
    start()
"""
SIDE = Side("one", workers=2)


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    app = folder / "app.py"
    app.write_text(APP)
    command = f"{{python}} -I -S {app} {{port}} {folder}"
    with Server(SIDE, command) as server:
        yield server


class Insight:
    """Knows the workers by their tree, and what they have answered by nothing."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def workers(self) -> list[int]:
        return [one.pid for one in self._server.tree().alive() if one.parent == self._server.pid]

    def requests(self) -> dict[int, int]:
        return {}

    def reload(self) -> None:
        raise AssertionError


def at_moment(number: int, act: Callable[[], None]) -> Callable[[Moment], None]:
    def watch(moment: Moment) -> None:
        if moment.number == number:
            act()

    return watch


def test_a_turn_has_the_server_s_own_figures(tmp_path: Path) -> None:
    """CPU time a request is what the server has used for it, as it says itself."""
    seen: list[Moment] = []
    load = Load(connections=4, duration=0.75)
    with served(tmp_path) as server:
        turn = take(SIDE, 3, load, server.target(), server=server, watch=seen.append)
    assert (turn.side, turn.round, turn.partial, turn.errors) == ("one", 3, False, {})
    assert [moment.number for moment in seen] == [0, 1, 2]
    assert turn.moments == seen
    assert turn.seconds == pytest.approx(0.75 - turn.warmup * INTERVAL)
    assert turn.requests == sum(moment.requests for moment in seen[turn.warmup :])
    assert turn.latency.count == turn.requests
    assert turn.connections == 4
    assert turn.generator.shared
    own = [file.read_text().split() for file in tmp_path.iterdir() if file.name.isdigit()]
    assert len(own) == 2
    # All that was answered: what was seen, what was under way, and whether it answers at all.
    answered = sum(moment.requests for moment in seen)
    assert 0 <= sum(int(served) for served, _ in own) - answered <= turn.unanswered + 1
    assert turn.server is not None
    assert turn.server.processes == 3
    assert turn.server.pss > 3_000_000
    spent = sum(float(used) for _, used in own) / sum(int(served) for served, _ in own) * 1e6
    assert turn.cpu_per_request == pytest.approx(spent, rel=0.08)
    assert sum(turn.server.cpu_by_worker.values()) == pytest.approx(turn.server.cpu, rel=0.02)


def test_what_the_warm_up_used_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterd.bench.turn.cut", lambda _: 1)
    with served(tmp_path) as server:
        turn = take(SIDE, 1, Load(connections=4, duration=0.5), server.target(), server=server)
    assert turn.warmup == 1
    assert turn.seconds == pytest.approx(0.25)
    assert turn.requests == sum(moment.requests for moment in turn.moments[1:])
    assert turn.cpu_per_request is not None
    # And not twice that. Of four that are under way at the cut, a part may belong before it.
    assert 1000 - 4_000 / turn.requests <= turn.cpu_per_request < 1500


def test_workers_that_are_killed_keep_what_they_used(tmp_path: Path) -> None:
    load = Load(connections=4, duration=0.75)
    with served(tmp_path) as server:
        insight = Insight(server)

        class Kills:
            done: list[int] = []  # noqa: RUF012

            def due(self) -> float:
                return 0.3 if not self.done else math.inf

            def step(self, at: float) -> list[Event]:
                self.done.append(insight.workers()[0])
                os.kill(self.done[0], signal.SIGKILL)
                return [Event(at, "kill", "one")]

        turn = take(SIDE, 1, load, server.target(), server=server, insight=insight, chaos=Kills())
    assert [(event.kind, event.text) for event in turn.events] == [("kill", "one")]
    assert 0.3 <= turn.events[0].at < 0.75
    assert not turn.partial
    assert turn.server is not None
    assert len(turn.server.cpu_by_worker) == 3
    assert set(Kills.done) < set(turn.server.cpu_by_worker)
    # Each request takes a millisecond, and a little for the sockets. What a killed one used since
    # we looked last is known from its parent alone, in ticks of 10 ms; some may be missing.
    assert turn.cpu_per_request is not None
    assert 1000 - 20_000 / turn.requests <= turn.cpu_per_request < 1500


def test_ctrl_c_gives_the_turn_so_far(tmp_path: Path) -> None:
    pids: list[int] = []

    def stop() -> None:
        pids.extend(generators())
        raise KeyboardInterrupt

    with served(tmp_path) as server:
        turn = take(
            SIDE,
            1,
            Load(connections=2, duration=60.0),
            server.target(),
            server=server,
            watch=at_moment(1, stop),
        )
        assert server.ended() == ""
    assert turn.partial
    assert len(turn.moments) in (2, 3)
    assert 0.25 <= turn.seconds < 5
    assert turn.requests > 0
    assert turn.server is not None
    assert turn.server.cpu > 0
    assert len(pids) == 1
    assert left(pids, 0) == []


def generators() -> list[int]:
    """Pids of our generator processes."""
    found = []
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        if b"clusterd.bench.generator" in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.append(int(pid))
    return found


def test_a_server_that_dies_ends_the_turn_and_is_quoted(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        turn = take(
            SIDE,
            1,
            Load(connections=2, duration=60.0),
            server.target(),
            server=server,
            watch=at_moment(0, lambda: os.kill(server.pid, signal.SIGKILL)),
        )
    assert turn.partial
    [event] = turn.events
    assert event.kind == "died"
    assert event.text.startswith("the server was killed by SIGKILL\nIt said")
    assert turn.requests > 0


def test_a_generator_that_dies_makes_the_turn_partial(tmp_path: Path) -> None:
    def kill() -> None:
        for pid in generators():
            os.kill(pid, signal.SIGKILL)

    with served(tmp_path) as server:
        turn: Turn = take(
            SIDE,
            1,
            Load(connections=2, duration=60.0),
            server.target(),
            server=server,
            watch=at_moment(0, kill),
        )
    assert turn.partial
    assert "a generator process ended before its time, with -9" in turn.doubts
    assert turn.requests > 0


def test_a_generator_that_hangs_is_left_out_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clusterd.bench.turn.END_LIMIT", 0.5)
    monkeypatch.setattr("clusterd.bench.crew.STOP_LIMIT", 0.2)

    def hang() -> None:
        os.kill(generators()[0], signal.SIGSTOP)

    with served(tmp_path) as server:
        turn: Turn = take(
            SIDE,
            1,
            Load(connections=2, duration=1.0, timeout=0.5),
            server.target(),
            server=server,
            processes=2,
            watch=at_moment(0, hang),
        )
    assert turn.partial
    assert "a generator process did not end when it should have" in turn.doubts
    assert len(turn.moments) == 4  # the other one has seen them all
    assert generators() == []


def test_what_cannot_be_reached_is_no_turn() -> None:
    nobody = Target("http", "127.0.0.1", 1)
    with pytest.raises(Unreachable):
        take(SIDE, 1, Load(connections=1, timeout=0.5), nobody)
    assert generators() == []


def test_a_server_that_is_gone_before_the_start_is_the_server_s_fault(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        os.kill(server.pid, signal.SIGKILL)
        assert left([server.pid]) == []
        with pytest.raises(ServerFailed, match="was killed by SIGKILL before the load began"):
            take(SIDE, 1, Load(connections=1, timeout=0.5), server.target(), server=server)


def test_a_url_s_own_machine_is_shared_and_another_is_not(tmp_path: Path) -> None:
    load = Load(connections=2, rate=50.0, duration=0.3)
    with served(tmp_path) as server:
        turn = take(SIDE, 1, load, server.target(), places=Places(), processes=2)
    assert turn.server is None
    assert turn.cpu_per_request is None
    assert turn.generator.shared
    assert turn.generator.processes == 2
    assert turn.seconds == pytest.approx(0.3)
    assert turn.lag is not None
    assert turn.requests + turn.unanswered == pytest.approx(15, abs=1)


def test_a_url_that_nobody_serves_any_more_ends_the_turn(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        load = Load(connections=2, duration=60.0)
        turn = take(SIDE, 1, load, server.target(), watch=at_moment(0, server.stop))
    assert turn.partial
    [event] = turn.events
    assert event.kind == "died"
    assert event.at < 20
    assert turn.requests > 0
    assert turn.errors["connect"] > 0
