"""A stop empties the accept queues: where no worker is ready, one more is started for that."""

import contextlib
import errno
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.errors import BindError
from clusterd.core.events import Kind
from clusterd.core.exits import Exit
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.messages import Drain, Empty, Lasting
from clusterd.master import ending, orders, reload
from clusterd.master.group import Group
from tests.support.fake import Behaviour, Child
from tests.support.several import bound, program
from tests.support.simulated import Simulation, config, simulated


class Client:
    """A connection in the queue of the first listener, until `served`."""

    def __init__(self, sim: Simulation) -> None:
        self.listener = next(iter(sim.group.sockets)).sock.dup()
        self.listener.setblocking(False)
        self.sock = socket.socket(self.listener.family)
        self.sock.connect(self.listener.getsockname())

    def served(self) -> None:
        """As a worker does that empties the queue."""
        self.listener.accept()[0].close()


@contextlib.contextmanager
def waiting(sim: Simulation) -> Iterator[Client]:
    client = Client(sim)
    try:
        yield client
    finally:
        client.sock.close()
        client.listener.close()


def pause(sim: Simulation) -> None:
    sim.kernel.send(signal.SIGWINCH)
    sim.settle()


def stop(sim: Simulation) -> None:
    sim.kernel.send(signal.SIGTERM)


def is_told_to_be_the_last(worker: Child) -> bool:
    return any(isinstance(message, Drain) and message.last for message in worker.heard)


def serve_by_one_more(sim: Simulation, client: Client) -> None:
    """Until the stop is over. One worker is started, and ready, before it is told to leave."""
    before = {worker.pid for worker in sim.kernel.workers()}

    def newborn() -> list[Child]:
        return [one for one in sim.kernel.workers() if one.pid not in before]

    sim.until(lambda: any(is_told_to_be_the_last(one) for one in newborn()))
    (sweeper,) = newborn()
    assert sweeper.ready
    client.served()
    sim.until(lambda: sim.loop.over)
    assert sim.cluster.exit is Exit.OK


def test_a_stop_in_a_pause() -> None:
    with simulated(3) as sim:
        sim.start()
        pause(sim)
        with waiting(sim) as client:
            stop(sim)
            serve_by_one_more(sim, client)


def test_a_stop_in_a_pause_where_no_connection_waits_starts_no_worker() -> None:
    with simulated(3) as sim:
        sim.start()
        pause(sim)
        spawned = len(sim.find(Kind.SPAWNED))
        stop(sim)
        sim.until(lambda: sim.loop.over)
        assert len(sim.find(Kind.SPAWNED)) == spawned


def test_a_stop_after_all_workers_were_killed() -> None:
    with simulated(2) as sim:
        sim.start()
        with waiting(sim) as client:
            for worker in sim.kernel.workers():
                sim.kernel.kill(worker.pid, signal.SIGKILL)
            sim.order(lambda: orders.stop(sim.cluster))
            serve_by_one_more(sim, client)


def test_a_stop_after_the_zygote_was_killed_as_well() -> None:
    """It imports once more."""
    with simulated(2) as sim:
        sim.start()
        with waiting(sim) as client:
            for child in [*sim.kernel.zygotes(), *sim.kernel.workers()]:
                sim.kernel.kill(child.pid, signal.SIGKILL)
            sim.order(lambda: orders.stop(sim.cluster))
            serve_by_one_more(sim, client)


def test_the_last_workers_that_are_killed_while_they_drain_are_replaced() -> None:
    with simulated(2, lambda _: Behaviour(drain_time=5.0)) as sim:
        sim.start()
        with waiting(sim) as client:
            stop(sim)
            sim.until(lambda: sim.group.roster.count(Phase.DRAINING) == 2)
            for worker in sim.kernel.workers():
                sim.kernel.kill(worker.pid, signal.SIGKILL)
            serve_by_one_more(sim, client)


def test_a_stop_in_a_pause_in_which_the_code_on_disk_changed() -> None:
    """Today's code serves them: that of the generation is lost with its zygote."""
    with simulated(1, lambda _: Behaviour(fingerprint="old")) as sim:
        sim.start()
        pause(sim)
        sim.kernel.behaviour = lambda _: Behaviour(fingerprint="new")
        sim.kernel.kill(sim.kernel.zygotes()[0].pid, signal.SIGKILL)
        with waiting(sim) as client:
            stop(sim)
            serve_by_one_more(sim, client)


@pytest.mark.parametrize("killed", [True, False])
def test_whether_a_connection_waits_at_a_unix_socket_is_known_by_how_the_last_worker_ended(
    tmp_path: Path, killed: bool
) -> None:
    """The kernel does not tell, once such a socket is closed to newcomers."""
    how = Behaviour(drain_time=5.0)
    with contextlib.closing(Simulation(on(f"unix:{tmp_path / 's'}"), lambda _: how)) as sim:
        sim.start()
        with waiting(sim) as client:
            stop(sim)
            sim.until(lambda: sim.group.roster.count(Phase.DRAINING) == 1)
            spawned = len(sim.find(Kind.SPAWNED))
            if killed:
                sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
                serve_by_one_more(sim, client)
            else:
                client.served()
                sim.until(lambda: sim.loop.over)
            assert len(sim.find(Kind.SPAWNED)) - spawned == killed


def test_deaths_of_those_that_the_pause_sent_away_do_not_end_it() -> None:
    """A worker that was paused leaves, or is killed, while the one that empties them starts."""
    with simulated(2, lambda _: Behaviour(drain_time=5.0, ready_time=2.0)) as sim:
        sim.start()
        sim.kernel.send(signal.SIGWINCH)
        sim.until(lambda: sim.group.roster.count(Phase.DRAINING) == 2)
        old = sim.kernel.workers()
        with waiting(sim) as client:
            stop(sim)
            sim.until(lambda: sim.group.roster.count(Phase.BOOTING) == 1)
            for worker in old:
                sim.kernel.kill(worker.pid, signal.SIGKILL)
            serve_by_one_more(sim, client)


def test_before_any_worker_was_ready_a_stop_waits_for_none() -> None:
    with simulated(2, lambda _: Behaviour(ready_time=None)) as sim:
        sim.until(lambda: bool(sim.kernel.workers()))
        spawned = len(sim.find(Kind.SPAWNED))
        with waiting(sim):
            stop(sim)
            sim.until(lambda: sim.loop.over)
            assert len(sim.find(Kind.SPAWNED)) == spawned


@pytest.mark.parametrize(
    "how", ["it cannot be forked", "it dies", "the import fails", "the queue is never empty"]
)
def test_a_stop_ends_though_no_worker_can_empty_the_queues(how: str) -> None:
    behaviour = Behaviour()
    with simulated(1, lambda _: behaviour) as sim:
        sim.start()
        pause(sim)
        if how == "it cannot be forked":
            behaviour.spawn_error = "no memory"
        elif how == "it dies":
            behaviour.ready_time, behaviour.dies_after = None, 0.1
        elif how == "the import fails":
            behaviour.import_error = "broken"
            sim.kernel.kill(sim.kernel.zygotes()[0].pid, signal.SIGKILL)
        with waiting(sim):
            stop(sim)
            sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.OK


def test_a_worker_that_hangs_at_its_start_is_waited_for_as_long_as_a_stop_may_take() -> None:
    behaviour = Behaviour()
    with simulated(1, lambda _: behaviour, graceful_timeout=7.0) as sim:
        sim.start()
        pause(sim)
        behaviour.ready_time = None
        with waiting(sim):
            began = sim.kernel.time
            stop(sim)
            sim.until(lambda: sim.loop.over)
        assert sim.kernel.time - began < 2 * 7.0 + sim.group.patience.overtime


def test_a_quick_stop_empties_nothing() -> None:
    with simulated(1) as sim:
        sim.start()
        pause(sim)
        spawned = len(sim.find(Kind.SPAWNED))
        with waiting(sim):
            sim.kernel.send(signal.SIGQUIT)
            sim.until(lambda: sim.loop.over)
        assert len(sim.find(Kind.SPAWNED)) == spawned


def on(*bind: str, workers: int = 1) -> Any:
    whole = config(workers)
    return replace(whole, listen=replace(whole.listen, bind=bind))


@contextlib.contextmanager
def on_two_addresses(place: Path) -> Iterator[Simulation]:
    """Ready, on a port and on a Unix socket."""
    sim = Simulation(on("127.0.0.1:0", f"unix:{place}"))
    try:
        yield sim.start()
    finally:
        sim.close()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Simulation]:
    with on_two_addresses(tmp_path / "s") as sim:
        yield sim


def drop_the_port(sim: Simulation) -> None:
    _, file = sim.config.listen.bind
    sim.config = on(file)
    sim.reload()


def names_given(worker: Child) -> list[str]:
    return [name for one in worker.heard if isinstance(one, Empty) for name in one.listeners]


def test_what_waits_at_an_address_that_is_dropped_is_given_to_a_ready_worker(
    both: Simulation,
) -> None:
    name = next(iter(both.group.sockets)).name
    drop_the_port(both)
    both.settle()
    assert [names_given(worker) for worker in both.kernel.workers()] == [[name]]
    assert both.find(Kind.UNBOUND, address=name)
    assert [one.path != "" for one in both.group.sockets] == [True]


def kill_all(sim: Simulation) -> None:
    """Until none is ready."""
    for worker in sim.kernel.workers():
        sim.kernel.kill(worker.pid, signal.SIGKILL)
    sim.until(lambda: not sim.ready())


@contextlib.contextmanager
def connected(family: socket.AddressFamily, where: Any) -> Iterator[None]:
    with socket.socket(family) as client:
        client.connect(where)
        yield


def test_where_no_worker_is_ready_it_waits_for_one(both: Simulation) -> None:
    _, file = both.group.sockets
    key = f"unix:{file.path}"
    with connected(socket.AF_UNIX, file.path):
        kill_all(both)
        both.order(lambda: ending.drop(both.group, [key]))
        assert file in list(both.group.sockets)
        both.until(lambda: file not in list(both.group.sockets))
        (worker,) = both.kernel.workers()
        both.kernel.pump()
        assert names_given(worker) == [file.name]


def test_an_address_that_comes_back_before_it_was_emptied_takes_connections_again(
    both: Simulation,
) -> None:
    port, file = both.group.sockets
    where = port.sock.getsockname()
    with connected(socket.AF_INET, where), connected(socket.AF_UNIX, file.path):
        kill_all(both)
        ending.drop(both.group, list(both.group.sockets.groups))
        assert [one.dropped for one in both.group.sockets] == [True, True]
        both.group.sockets.add(both.config.listen, 1)
        assert [one.dropped for one in both.group.sockets] == [False, False]
        assert port in list(both.group.sockets), "its queue is kept"
        with connected(socket.AF_INET, where), connected(socket.AF_UNIX, file.path):
            pass


def test_one_that_cannot_be_bound_leaves_what_was_dropped_as_it_was(both: Simulation) -> None:
    port, _ = both.group.sockets
    with (
        connected(socket.AF_INET, port.sock.getsockname()),
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        kill_all(both)
        ending.drop(both.group, ["127.0.0.1:0"])
        number = taken.getsockname()[1]
        with pytest.raises(BindError):
            both.group.sockets.add(on("127.0.0.1:0", f"127.0.0.1:{number}").listen, 1)
        assert port.dropped
        with socket.socket() as newcomer:
            newcomer.setblocking(False)
            assert newcomer.connect_ex(port.sock.getsockname()) == errno.EINPROGRESS


@pytest.mark.parametrize("how", ["inherited", "kept"])
def test_workers_know_which_listeners_outlive_the_cluster(tmp_path: Path, how: str) -> None:
    """Those they do not close to newcomers where the master was killed."""
    bind = on("127.0.0.1:0", f"unix:{tmp_path / 's'}")
    with contextlib.closing(Simulation(bind)) as sim:
        port, _ = sim.group.sockets
        setattr(port, how, True)
        sim.start()
        (worker,) = sim.kernel.workers()
        assert [one for one in worker.heard if isinstance(one, Lasting)] == [Lasting([port.name])]


def is_let_in(where: Any) -> bool:
    with socket.socket() as client:
        client.setblocking(False)
        client.connect_ex(where)
        return bool(select.select([], [client], [], 0)[1])


def test_an_address_that_is_dropped_lets_no_connection_in_while_its_queue_is_emptied(
    both: Simulation,
) -> None:
    port = next(iter(both.group.sockets))
    where = port.sock.getsockname()
    with connected(socket.AF_INET, where):
        kill_all(both)
        assert is_let_in(where)
        ending.drop(both.group, ["127.0.0.1:0"])
        assert port in list(both.group.sockets)
        assert not is_let_in(where)


def test_a_group_added_by_a_reload_lets_no_connection_in_before_a_worker_is_ready() -> None:
    """Should it be removed before that, its clients were never connected."""
    sim = Simulation(config(1))
    try:
        sim.start()
        sim.configs = {**sim.configs, "shop": config(1)}
        sim.order(lambda: reload.begin(sim.cluster, "test"))
        shop = sim.cluster.groups["shop"]
        where = next(iter(shop.sockets)).sock.getsockname()
        assert not is_let_in(where)
        sim.until(lambda: shop.roster.count(Phase.READY) == 1)
        assert is_let_in(where)
        assert is_let_in(next(iter(sim.group.sockets)).sock.getsockname()), "as ever"
    finally:
        sim.close()


def code_of_connecting_to(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path))


def add_shop(sim: Simulation, shop: Any) -> Group:
    sim.configs = {**sim.configs, "shop": shop}
    sim.order(lambda: reload.begin(sim.cluster, "test"))
    return sim.cluster.groups["shop"]


def test_a_unix_socket_that_a_reload_adds_refuses_connections_before_a_worker_is_ready(
    tmp_path: Path,
) -> None:
    with simulated(1) as sim:
        sim.start()
        shop = add_shop(sim, on(f"unix:{tmp_path / 's'}"))
        assert code_of_connecting_to(tmp_path / "s") == errno.ECONNREFUSED
        sim.until(lambda: shop.roster.count(Phase.READY) == 1)
        assert code_of_connecting_to(tmp_path / "s") == 0


def test_an_address_that_a_never_ready_group_gets_later_is_held_back_too(tmp_path: Path) -> None:
    with simulated(1, lambda _: Behaviour(ready_time=9.0)) as sim:
        sim.start()
        shop = add_shop(sim, on("127.0.0.1:0"))
        add_shop(sim, on("127.0.0.1:0", f"unix:{tmp_path / 's'}", "127.0.0.2:0"))
        _, _, other = shop.sockets
        assert code_of_connecting_to(tmp_path / "s") == errno.ECONNREFUSED
        assert not is_let_in(other.sock.getsockname())
        sim.until(lambda: shop.roster.count(Phase.READY) == 1)
        assert code_of_connecting_to(tmp_path / "s") == 0
        assert is_let_in(other.sock.getsockname())


@pytest.mark.parametrize("readiness", ["up", "notify"])
def test_a_port_of_a_program_is_closed_until_it_is_up_unless_it_says_so_itself(
    readiness: str, tmp_path: Path
) -> None:
    """It may try its own port before it says so. A Unix socket is handed over as it must be."""
    with simulated(1) as sim:
        sim.start()
        whole = program()
        command = replace(whole.command, readiness=readiness)
        shop = add_shop(
            sim, bound(replace(whole, command=command), "127.0.0.1:0", f"unix:{tmp_path / 's'}")
        )
        port = next(iter(shop.sockets)).sock.getsockname()
        assert is_let_in(port) is (readiness == "notify")
        assert code_of_connecting_to(tmp_path / "s") == 0
        sim.until(lambda: shop.roster.count(Phase.READY) == 1)
        assert is_let_in(port)


def test_a_dropped_address_stays_closed_where_the_reload_that_names_it_is_refused(
    both: Simulation,
) -> None:
    """Its queue waits for a worker, and another group's address cannot be had."""
    port, _ = both.group.sockets
    before = both.configs
    with (
        connected(socket.AF_INET, port.sock.getsockname()),
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        kill_all(both)
        ending.drop(both.group, ["127.0.0.1:0"])
        both.configs = {**before, "shop": on(f"127.0.0.1:{taken.getsockname()[1]}")}
        with pytest.raises(BindError):
            reload.begin(both.cluster, "test")
        assert port.dropped
        assert not is_let_in(port.sock.getsockname())
