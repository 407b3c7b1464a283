"""Who may look at the cluster beside who runs it: the admin endpoint with rights of its own."""

import json
import os
import pwd
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.settings import Config
from clusterd.core.events import Kind
from clusterd.kernel.privileges import Identity
from clusterd.master import reload
from clusterd.master.control import MOST_CLIENTS, Control
from clusterd.master.readers import ADMIN, may_enter, reader
from clusterd.master.socket_file import pinned
from tests.support.simulated import Simulation, config

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that anybody may enter; pytest's are its own."""
    made = Path(tempfile.mkdtemp(prefix="clusterd-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def of(user: str) -> Config:
    """Settings of workers that are somebody else."""
    return replace(config(1), limits=replace(config(1).limits, user=user))


def administered(user: str = "nobody") -> Simulation:
    """A cluster whose workers are somebody else, with an admin endpoint."""
    main = of(user)
    return Simulation({"web": main, ADMIN: main})


class Desk:
    """The control socket of such a cluster."""

    def __init__(self, sim: Simulation, path: Path) -> None:
        self.sim = sim
        self.control = Control(sim.cluster, str(path))
        sim.loop.control = self.control

    def ask(self, command: str, user: str) -> dict[str, Any] | None:
        """The reply to somebody; None: he was not let in."""
        with socket.socket(socket.AF_UNIX) as sock:
            entry = pwd.getpwnam(user)
            os.setegid(entry.pw_gid)
            os.seteuid(entry.pw_uid)  # what SO_PEERCRED tells is who connects
            try:
                sock.connect(self.control.path)
            except PermissionError:
                return None
            finally:
                os.seteuid(0)
                os.setegid(0)
            sock.sendall(json.dumps({"command": command}).encode() + b"\n")
            self.sim.turn()
            self.sim.turn()
            return self._reply(sock)

    def _reply(self, sock: socket.socket) -> dict[str, Any] | None:
        sock.setblocking(False)
        try:
            data = sock.recv(1 << 20)
        except ConnectionResetError:
            return None
        found: dict[str, Any] | None = json.loads(data) if data else None
        return found


def test_the_endpoint_may_look_and_not_command_and_others_may_neither(place: Path) -> None:
    sim = administered()
    desk = Desk(sim, place / "run" / "sock")
    try:
        sim.start()
        for command in ("status", "metrics"):
            reply = desk.ask(command, "nobody")
            assert reply is not None
            assert reply["ok"]
        for command in ("stop", "reload", "events", "dump", "nonsense"):
            assert desk.ask(command, "nobody") == {
                "ok": False,
                "error": "only who runs the cluster may command it",
                "remedy": "",
            }
        assert not sim.cluster.stopping
        assert desk.ask("status", "daemon") is None
        os.chmod(desk.control.path, 0o666)  # also where the file lets everybody through
        os.chmod(place / "run", 0o711)
        assert desk.ask("status", "daemon") is None
    finally:
        desk.control.close()
        sim.close()


def test_the_socket_is_for_the_endpoints_group_and_nobody_elses(place: Path) -> None:
    sim = administered()
    desk = Desk(sim, place / "run" / "sock")
    gid = pwd.getpwnam("nobody").pw_gid
    try:
        for path, mode in ((place / "run" / "sock", 0o660), (place / "run", 0o710)):
            about = path.stat()
            assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (mode, 0, gid)
        assert not sim.find(Kind.TROUBLE)
    finally:
        desk.control.close()
        sim.close()


def test_a_directory_that_is_not_ours_to_open_is_told_of(place: Path) -> None:
    (place / "run").mkdir(mode=0o700)
    sim = administered()
    desk = Desk(sim, place / "run" / "sock")
    try:
        assert stat.S_IMODE((place / "run").stat().st_mode) == 0o700
        (event,) = sim.find(Kind.TROUBLE)
        assert f"cannot enter {place}/run" in event.fields["reason"]
    finally:
        desk.control.close()
        sim.close()


def test_an_endpoint_that_comes_and_goes_by_a_reload_is_let_in_meanwhile(place: Path) -> None:
    main = of("nobody")
    sim = Simulation({"web": main})
    desk = Desk(sim, place / "run" / "sock")
    socket_file = place / "run" / "sock"
    try:
        sim.start()
        assert desk.ask("status", "nobody") is None
        sim.configs = {"web": main, ADMIN: main}
        reload.begin(sim.cluster, "test")
        assert (desk.ask("status", "nobody") or {})["ok"]
        assert stat.S_IMODE(socket_file.stat().st_mode) == 0o660
        sim.configs = {"web": main}
        reload.begin(sim.cluster, "test")
        sim.until(lambda: ADMIN not in sim.cluster.groups)
        assert desk.ask("status", "nobody") is None
        assert stat.S_IMODE(socket_file.stat().st_mode) == 0o600
        assert not desk.control.clients
    finally:
        desk.control.close()
        sim.close()


def test_a_link_in_place_of_the_socket_leads_nowhere(place: Path) -> None:
    """Who may write to the directory must not have us open another file to him."""
    victim, path = place / "shadow", place / "sock"
    victim.touch(mode=0o600)
    path.symlink_to(victim)
    with pytest.raises(OSError, match="link"), pinned(str(path)):
        pass
    path.unlink()
    path.touch(mode=0o600)
    with pinned(str(path)) as name:
        path.rename(place / "moved")
        path.symlink_to(victim)
        os.chmod(name, 0o660)
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (victim, place / "moved")]
    assert modes == [0o600, 0o660]


@pytest.mark.parametrize("user", ["", "root"])
def test_without_other_rights_nothing_is_opened(place: Path, user: str) -> None:
    sim = administered(user)
    desk = Desk(sim, place / "run" / "sock")
    try:
        assert reader(sim.cluster) is None
        assert stat.S_IMODE((place / "run" / "sock").stat().st_mode) == 0o600
        assert stat.S_IMODE((place / "run").stat().st_mode) == 0o700
        assert desk.ask("status", "nobody") is None
    finally:
        desk.control.close()
        sim.close()


@pytest.mark.parametrize(
    ("mode", "owner", "may"),
    [
        (0o701, (0, 0), True),
        (0o710, (0, 0), False),
        (0o710, (0, 77), True),
        (0o701, (0, 77), False),
        (0o700, (77, 0), True),
        (0o077, (77, 77), False),
    ],
)
def test_the_first_class_that_fits_decides(
    place: Path, mode: int, owner: tuple[int, int], may: bool
) -> None:
    os.chown(place, *owner)
    place.chmod(mode)
    assert may_enter(str(place), Identity(77, 77, "shop", "/")) is may


def test_those_who_only_look_are_not_in_the_way_of_who_commands(place: Path) -> None:
    """An application that is broken into may open as many lines as it likes."""
    sim = administered()
    desk = Desk(sim, place / "run" / "sock")
    lookers = [socket.socket(socket.AF_UNIX) for _ in range(MOST_CLIENTS + 8)]
    ours = socket.socket(socket.AF_UNIX)
    try:
        sim.start()
        ours.connect(desk.control.path)
        sim.turn()
        entry = pwd.getpwnam("nobody")
        os.setegid(entry.pw_gid)
        os.seteuid(entry.pw_uid)
        try:
            for sock in lookers:
                sock.connect(desk.control.path)
                os.seteuid(0)
                sim.turn()
                os.seteuid(entry.pw_uid)
        finally:
            os.seteuid(0)
            os.setegid(0)
        assert len(desk.control.clients) == MOST_CLIENTS
        ours.sendall(b'{"command": "status"}\n')
        ours.settimeout(30)
        sim.turn()
        assert ours.recv(9) == b'{"ok": tr'
    finally:
        for sock in (*lookers, ours):
            sock.close()
        desk.control.close()
        sim.close()
