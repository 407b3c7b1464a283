"""What the service manager hears, and when: by a socket of ours in systemd's place."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.events import Event, Kind
from clusterd.master import notify, orders
from clusterd.master.notify import Line, Teller, View
from tests.support.fake import Behaviour
from tests.support.several import groups, program
from tests.support.simulated import Simulation, config, simulated

UP = View(ready=True, rolling=False, stopping=False, counts="2 of 2", patience=70)
ROLLING = View(ready=True, rolling=True, stopping=False, counts="2 of 2", patience=70)
STARTING = View(ready=False, rolling=False, stopping=False, counts="0 of 2", patience=70)
LEAVING = View(ready=True, rolling=False, stopping=True, counts="1 left", patience=30)


def event(kind: Kind, **fields: Any) -> Event:
    return Event(1, 0.0, kind, fields)


@pytest.fixture
def teller() -> Teller:
    """One that has said that the cluster is ready."""
    teller = Teller(7)
    teller.say(STARTING, 0.0)
    teller.say(UP, 1.0)
    return teller


def test_a_start_is_told_once() -> None:
    teller = Teller(7)
    said = teller.say(STARTING, 0.0)
    assert said == ["EXTEND_TIMEOUT_USEC=70000000", "STATUS=starting; 0 of 2"]
    assert teller.say(STARTING, 0.5) == []
    assert teller.say(STARTING, 20.0) == ["EXTEND_TIMEOUT_USEC=70000000"]  # it got on
    assert teller.say(UP, 21.0) == ["READY=1\nMAINPID=7", "STATUS=2 of 2"]
    assert teller.say(UP, 22.0) == []


HUP = event(Kind.SIGNALLED, signal="SIGHUP")
BEGAN = event(Kind.ROLLOUT_STARTED, generation=2, previous=1, reason="SIGHUP")
REFUSED = event(Kind.RELOAD_REFUSED, reason="clusterd.toml: no", remedy="")
FAILED = event(Kind.ROLLOUT_FAILED, generation=2, serving=1, reason="import failed:\nno")
FINISHED = event(Kind.ROLLOUT_FINISHED, generation=2, previous=1)


@pytest.mark.parametrize("cause", [HUP, BEGAN], ids=["signal", "command"])
def test_a_reload_is_told_from_its_beginning_to_its_end(teller: Teller, cause: Event) -> None:
    teller.hear(cause)
    assert teller.say(ROLLING, 5.25)[0] == "RELOADING=1\nMONOTONIC_USEC=5250000"
    assert not any("READY" in text or "RELOADING" in text for text in teller.say(ROLLING, 6.0))
    teller.hear(FINISHED)
    assert teller.say(UP, 7.0) == ["READY=1", "STATUS=2 of 2"]


def test_a_reload_that_fails_ends_too_and_the_status_says_why(teller: Teller) -> None:
    teller.hear(BEGAN)
    teller.say(ROLLING, 5.0)
    teller.hear(FAILED)
    assert teller.say(UP, 7.0) == [
        "READY=1",
        "STATUS=2 of 2; generation 2 did not come up: import failed: no",
    ]
    teller.hear(BEGAN)
    teller.say(ROLLING, 8.0)
    teller.hear(FINISHED)
    assert "STATUS=2 of 2" in teller.say(UP, 9.0), "one that succeeds puts it right"


def test_settings_that_are_refused_are_a_reload_of_no_time(teller: Teller) -> None:
    teller.hear(HUP)
    teller.hear(REFUSED)
    said = teller.say(UP, 5.0)
    assert [text.partition("\n")[0] for text in said if "EXTEND" not in text] == [
        "RELOADING=1",
        "READY=1",
        "STATUS=2 of 2; reload refused: clusterd.toml: no",
    ]


def test_a_second_request_during_a_reload_is_answered_too(teller: Teller) -> None:
    """systemd waits for a RELOADING=1 that is later than its signal, even while one rolls."""
    teller.hear(HUP)
    teller.say(ROLLING, 5.0)
    teller.hear(HUP)
    assert teller.say(ROLLING, 6.0)[0] == "RELOADING=1\nMONOTONIC_USEC=6000000"
    assert "READY=1" in teller.say(UP, 7.0)


def test_after_a_while_of_serving_earlier_restarts_no_longer_count(teller: Teller) -> None:
    assert teller.reset_at == 31.0, "the teller was ready at 1"
    assert teller.say(UP, 30.9) == []
    assert teller.say(UP, 31.0) == ["RESTART_RESET=1"]
    assert teller.reset_at == inf
    assert teller.say(UP, 1000.0) == []


def test_earlier_restarts_count_on_while_nothing_serves(teller: Teller) -> None:
    assert teller.say(replace(UP, healthy=False), 31.0) == []
    assert teller.say(UP, 60.9) == []
    assert teller.say(UP, 61.0) == ["RESTART_RESET=1"]
    stopped = Teller(7)
    stopped.say(UP, 1.0)
    assert "RESTART_RESET=1" not in stopped.say(LEAVING, 31.0)
    assert stopped.reset_at == inf, "and it does not wake the master for it"


def test_the_master_wakes_once_to_say_so(sock: socket.socket) -> None:
    with simulated(2) as sim:
        told = Told(sim, sock)
        sim.start()
        told.heard()
        began = sim.kernel.time
        sim.settle()
        assert told.heard() == ["RESTART_RESET=1"]
        assert sim.kernel.time == pytest.approx(began + 30.0)
        assert sim.loop.due == inf


def test_a_stop_has_the_last_word(teller: Teller) -> None:
    teller.hear(BEGAN)
    teller.say(ROLLING, 5.0)
    teller.hear(FAILED)
    assert teller.say(LEAVING, 6.0) == [
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=30000000",  # systemd forgets what it was told before the stop
        "STATUS=stopping; 1 left",
    ]
    assert teller.say(LEAVING, 6.5) == []
    assert teller.say(LEAVING, 16.0) == ["EXTEND_TIMEOUT_USEC=30000000"]


def test_what_the_queue_has_no_room_for_is_said_later_and_in_order(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        line = Line(str(tmp_path / "notify"))
        sent = 0
        while not line.is_behind:
            line.say(str(sent))
            sent += 1
        line.say("last")
        heard = [manager.recv(100) for _ in range(sent - 1)]
        line.say()
        assert not line.is_behind
        heard += [manager.recv(100), manager.recv(100)]
        assert [text.decode() for text in heard] == [*map(str, range(sent)), "last"]
        line.close()


def test_nobody_at_the_other_end_is_no_trouble(tmp_path: Path) -> None:
    for place in (str(tmp_path / "none"), "@clusterd-test-none"):
        line = Line(place)
        line.say("READY=1")
        assert not line.is_behind
        line.close()


class Told:
    """A simulated cluster under a manager that writes down what it hears."""

    def __init__(self, simulation: Simulation, sock: socket.socket, **environ: str) -> None:
        self.sock = sock
        self.simulation = simulation
        place = "@" + sock.getsockname()[1:].decode()
        environ = {"NOTIFY_SOCKET": place, **environ}
        self.manager = notify.connect(simulation.cluster, environ)
        simulation.loop.manager = self.manager

    def heard(self) -> list[str]:
        """The first line of each datagram since the last call."""
        found = []
        while True:
            try:
                found.append(self.sock.recv(4096).decode().partition("\n")[0])
            except BlockingIOError:
                return found


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # an abstract name of the kernel's choice, unix(7)
        manager.setblocking(False)
        yield manager


def test_a_life_as_systemd_hears_it(sock: socket.socket) -> None:
    with simulated(2) as sim:
        told = Told(sim, sock)
        sim.start()
        assert told.heard()[-2:] == ["READY=1", "STATUS=2 of 2 workers ready, generation 1"]
        sim.reload()
        sim.settle()
        heard = told.heard()
        assert heard[0] == "RELOADING=1"
        assert heard[-3:-1] == ["READY=1", "STATUS=2 of 2 workers ready, generation 2"]
        assert heard[-1] == "RESTART_RESET=1", "it has served for a while since the start"
        sim.order(lambda: orders.stop(sim.cluster))
        sim.until(lambda: sim.loop.over)
        heard = told.heard()
        assert heard[0] == "STOPPING=1"
        assert "EXTEND_TIMEOUT_USEC=43000000" in heard, "graceful, overtime, dismissal, spare"


def test_what_there_is_no_room_for_is_tried_again_after_a_tenth_of_a_second(
    sock: socket.socket,
) -> None:
    with simulated(1) as sim, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"of others", sock.getsockname())
        told = Told(sim, sock)
        sim.start()
        assert set(told.heard()) == {"of others"}
        began = sim.kernel.time
        heard: list[str] = []

        def is_ready() -> bool:
            heard.extend(told.heard())
            return "READY=1" in heard

        sim.until(is_ready)
        assert began < sim.kernel.time <= began + 0.11


def test_broken_code_ends_the_reload_and_stays_in_the_status(sock: socket.socket) -> None:
    def broken(generation: int) -> Behaviour:
        return Behaviour(import_error="" if generation == 1 else "no module named shop")

    with simulated(2, broken) as sim:
        told = Told(sim, sock)
        sim.start()
        sim.reload()
        sim.settle()
        assert told.heard()[-3:-1] == [
            "READY=1",
            "STATUS=2 of 2 workers ready, generation 1; generation 2 did not come up: "
            "import failed: no module named shop",
        ]


def test_a_program_that_keeps_failing_does_not_keep_the_others_from_being_ready(
    sock: socket.socket,
) -> None:
    """systemd would end them all when the time for a start is over."""

    def failing(generation: int) -> Behaviour:
        return Behaviour() if generation == 1 else Behaviour(ready_time=None, dies_after=0.1)

    with groups(failing, web=config(1), work=program(1)) as sim:
        told = Told(sim, sock)
        heard: list[str] = []

        def is_ready() -> bool:
            heard.extend(told.heard())
            return "READY=1" in heard

        sim.until(is_ready)
        assert "1 of 1 workers ready" in heard[-1]
        assert "web " in heard[-1]
        assert "work " in heard[-1]


def test_signs_of_life_come_from_the_loop_at_half_the_time_and_only_if_wanted(
    sock: socket.socket,
) -> None:
    with simulated(1) as sim:
        mine = str(sim.cluster.pid)
        told = Told(sim, sock, WATCHDOG_USEC="10000000", WATCHDOG_PID=mine)
        sim.start()
        heard: list[str] = []
        began = sim.kernel.time

        def a_while() -> bool:
            heard.extend(told.heard())  # the kernel's queue is short
            return sim.kernel.time > began + 100

        sim.until(a_while)
        assert 20 <= heard.count("WATCHDOG=1") <= 22
        assert told.manager is not None
        assert told.manager.due <= sim.kernel.time + 5


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "10", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}],
    ids=["unset", "somebody-else", "nonsense"],
)
def test_a_master_whom_nobody_watches_does_not_wake(environ: dict[str, str]) -> None:
    assert notify.watchdog(environ, 7) == inf


@pytest.mark.parametrize("place", ["", "@", "vsock:2:1234", "relative"])
def test_without_a_manager_there_is_nothing_to_do(place: str) -> None:
    with simulated(1) as sim:
        assert notify.connect(sim.cluster, {"NOTIFY_SOCKET": place}) is None
