"""The state that an upgrade carries: all of it, and nothing that is not understood."""

import dataclasses
import enum
import json
import os
import signal
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest

from clusterd.core.events import Event, Kind
from clusterd.core.plain import Descriptor, Unfit, Writer
from clusterd.ipc.certificates import Bundle, File
from clusterd.ipc.messages import Certified
from clusterd.master import orders
from clusterd.master.certificates import Renewal
from clusterd.master.control import Client, Control
from clusterd.master.listener import Listener
from clusterd.master.state import HINTS, LEFT, WRITE, State, read, write
from clusterd.master.waiters import KINDS, Dumps, Renewed, RolloutsOver, UpgradeOver, Waiter
from tests.support.simulated import Simulation, abandon, simulated

DESCRIPTORS = {"fd", "dump", "lock", "log_fd", "output", "notify_fd"}  # names of fields that are
SCALARS = (str, int, float, bool, types.NoneType, bytearray, bytes, object)


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulation]:
    """A cluster with something in every corner, in the middle of a reload."""
    with simulated(3) as made:
        made.start()
        control = made.loop.control = Control(made.cluster, str(tmp_path / "c.sock"))
        made.kernel.end(made.kernel.workers()[0], -9)
        orders.dump(made.group, list(made.group.roster.workers)[1:])
        made.group.dumps[1].text += b"a piece\xff"
        made.reload()
        made.until(lambda: bool(made.find(Kind.CANARY_READIED)))
        fill(made)
        for number, waiter in enumerate(WAITERS, 1):
            ours, theirs = made.kernel.pair()
            theirs.close()
            control.clients[number] = Client(number, ours, bytearray(b"ha"), waiter=waiter)
        yield made
        control.close()


WAITERS = (
    RolloutsOver("web", {"web": 2}, {"web": 2}, []),
    Renewed([{"group": "web", "generation": 1, "renewal": 1}], ["a"]),
    Dumps({7}, [{"pid": 6}]),
    UpgradeOver(),
)


def fill(sim: Simulation) -> None:
    group, cluster = sim.group, sim.cluster
    sealed = Bundle(((File("c", "é"), File("k", "")),), "secret").seal()
    group.bundles[1] = sealed
    group.renewals[1] = Renewal(3, sealed, 100, {1, None}, Certified(3, names=["a"], expires=1.5))
    group.covers[0] = {"a", "b"}
    group.tracebacks[1] = "Traceback …"
    group.misconfigured.add(9)
    group.roster.faults[9] = "no tea"
    group.roster.lost.add(9)
    group.restarts[2] = 4
    group.totals[10] = 12345678901234
    group.again = True
    group.sockets.held = group.sockets.held_files = True
    cluster.given = {"app": "shop:app", "bind": ("127.0.0.1:0",), "workers": None}
    cluster.interrupts = 1


def state_of(sim: Simulation) -> State:
    return State(
        sim.cluster, sim.cluster.journal, sim.loop.control, 1.5, {int(signal.SIGHUP): 2}, []
    )


class Renumbered(Writer):
    """Writes copies of descriptors under the numbers of the originals."""

    __slots__ = ("originals",)
    originals: dict[int, int]

    def descriptor(self, number: int) -> int:
        return self.originals.get(number, number)


def test_a_rich_cluster_is_written_and_read_again(sim: Simulation) -> None:
    first = state_of(sim)
    data, descriptors = write(first)
    copies: dict[int, int] = {}

    def take(number: int) -> int:
        copy = os.dup(number)
        assert number not in copies.values()
        copies[copy] = number
        return copy

    again, version = read(data, sim.kernel, take)
    assert version == json.loads(data)["version"]
    writer = Renumbered(HINTS, LEFT, WRITE)
    writer.originals = copies
    assert json.loads(json.dumps(writer.write(State, again))) == json.loads(data)["state"]
    assert sorted(copies.values()) == sorted(descriptors), "each is taken once"
    roster = again.cluster.main.roster
    assert roster == sim.group.roster
    assert again.cluster.main.goal == sim.group.goal
    assert again.cluster.main.configs == sim.group.configs
    assert again.journal.since(0) == sim.events
    assert again.control is not None
    assert tuple(client.waiter for client in again.control.clients.values()) == WAITERS
    assert again.cluster.main.renewals[1].sealed is again.cluster.main.bundles[1]
    abandon(again.cluster, again.control)


def test_every_descriptor_of_the_master_is_named(sim: Simulation) -> None:
    """One that is forgotten would be closed: a worker's channel, and the worker would leave."""
    _, descriptors = write(state_of(sim))
    group = sim.group
    held = [one.channel.fileno() for one in group.handles.values()]
    held += [one.dump for one in group.handles.values()]
    held += [channel.fileno() for channel in group.zygote_channels.values()]
    held += [end.fileno() for end in group.handover]
    held += [one.sock.fileno() for one in group.sockets]
    held += [group.board.fd, group.bundles[1].fd, sim.cluster.log_fd]
    assert sim.loop.control is not None
    held += [sim.loop.control.file.sock.fileno(), sim.loop.control.file.lock]
    held += [client.sock.fileno() for client in sim.loop.control.clients.values()]
    assert sorted(descriptors) == sorted(number for number in held if number >= 0)


def test_every_field_of_every_class_can_be_carried() -> None:
    """Whoever adds one keeps it plain, or says in `state` how it is carried or left behind."""
    seen: set[Any] = set()
    for hint in (State, Listener, Client, Event, *KINDS.values()):
        check(hint, seen)
    for cls, names in LEFT.items():
        assert names.keys() <= HINTS.of(cls).keys()


def test_nothing_is_held_beside_the_fields(sim: Simulation) -> None:
    """What a method sets on the fly would be missing in the new master."""
    again, _ = read(write(state_of(sim))[0], sim.kernel, os.dup)
    assert vars(again.cluster).keys() == vars(sim.cluster).keys()
    assert vars(again.cluster.main).keys() == vars(sim.group).keys()
    assert again.control is not None
    again.control.open()
    assert vars(again.control).keys() == vars(sim.loop.control).keys()
    ours, theirs = again.cluster.main.sockets, sim.group.sockets
    assert vars(ours).keys() == vars(theirs).keys()
    abandon(again.cluster, again.control)


def test_every_waiter_can_be_carried() -> None:
    assert set(KINDS.values()) == set(Waiter.__subclasses__())


def check(hint: Any, seen: set[Any], where: str = "") -> None:
    if hint in seen or hint in SCALARS or hint in WRITE or hint is Any or is_descriptor(hint):
        return
    seen.add(hint)
    if get_origin(hint) in (list, tuple, set, frozenset, dict, typing.Union, types.UnionType):
        arms = [arm for arm in get_args(hint) if arm is not Ellipsis]
        union = get_origin(hint) in (typing.Union, types.UnionType)
        several = union and len([arm for arm in arms if arm is not types.NoneType]) > 1
        assert not several or all(arm in SCALARS for arm in arms), f"{where}: {hint}"
        for arm in arms:
            check(arm, seen, where)
    elif dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        for name, one in HINTS.of(hint).items():
            if name not in LEFT.get(hint, {}):
                here = f"{hint.__name__}.{name}"
                assert name not in DESCRIPTORS or one is not int, f"{here} is a Descriptor"
                check(one, seen, here)
    else:
        enumerated = isinstance(hint, type) and issubclass(hint, enum.Enum)
        assert enumerated, f"{where}: {hint} cannot be carried"


def is_descriptor(hint: Any) -> bool:
    return get_origin(hint) is Annotated and hint == Descriptor


def change_format(document: dict[str, Any]) -> None:
    document["format"] = 99


def change_message(document: dict[str, Any]) -> None:
    document["messages"]["Ready"].append("colour")


def lose_message(document: dict[str, Any]) -> None:
    document["messages"]["Tea"] = []


def change_board(document: dict[str, Any]) -> None:
    document["board"]["requests"] += 1


def change_worker(document: dict[str, Any]) -> None:
    groups = document["state"]["cluster"]["groups"]
    groups["web"]["roster"]["workers"][0][1]["colour"] = "red"


def change_setting(document: dict[str, Any]) -> None:
    document["state"]["cluster"]["groups"]["web"]["config"]["fleet"]["teas"] = 1


def change_kind(document: dict[str, Any]) -> None:
    document["state"]["journal"]["events"][0][2] = "tea_made"


def no_descriptor(document: dict[str, Any]) -> None:
    document["state"]["cluster"]["groups"]["web"]["board"] = 12345


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves what it opened to its end
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (change_format, "of format 99, and this version knows format 1"),
        (change_message, "the message 'Ready' is another"),
        (lose_message, "the message 'Tea' is another"),
        (change_board, "the cell 'requests' is another"),
        (change_worker, r"Worker\.colour is not known"),
        (change_setting, r"FleetSettings\.teas is not known"),
        (change_kind, "'tea_made' is not a valid Kind"),
        (no_descriptor, "Bad file descriptor"),
    ],
)
def test_what_is_not_understood_is_refused(
    sim: Simulation, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    document = json.loads(write(state_of(sim))[0])
    change(document)
    taken: list[int] = []

    def take(number: int) -> int:
        taken.append(os.dup(number))
        return taken[-1]

    with pytest.raises(Unfit, match=says):
        read(json.dumps(document).encode(), sim.kernel, take)


@pytest.mark.parametrize("data", [b"", b"tea", b"[]", b"{}", b'{"format": 1}'])
def test_what_is_no_state_at_all_is_refused(sim: Simulation, data: bytes) -> None:
    with pytest.raises(Unfit, match="no state"):
        read(data, sim.kernel, int)
