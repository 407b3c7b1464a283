"""What a soak does to a cluster. Each operation takes plain arguments, so that it can be recorded;
in a shorter replay it may find another cluster than it was drawn for, and does what it can."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.soak.world import BROKEN, World

Arguments = dict[str, Any]
LARGEST = 4  # workers
# Settings that a reload may change, with values that change nothing for the clients.
SETTINGS = {
    "keep_alive": ['"30s"', '"90s"'],
    "backlog": ["512", "4096"],
    "stream_grace": ['"1s"', '"3s"'],
    "rollback_keep": ['"5s"', '"10m"'],
    "preload": ['"auto"', '"never"'],
}


@dataclass(frozen=True)
class Operation:
    """How often it is drawn, with which arguments, and what it does."""

    weight: int
    act: Callable[..., None]
    draw: Callable[[Random], Arguments] = lambda _random: {}


def a_slot(random: Random) -> Arguments:
    return {"slot": random.randrange(LARGEST)}


def kill_worker(world: World, slot: int) -> None:
    if pids := world.pids():
        pid = pids[slot % len(pids)]
        world.kill(pid)
        world.server.wait_for("exited", [pid])


def kill_all_workers(world: World) -> None:
    pids = world.pids()
    for pid in pids:
        world.kill(pid)
    world.server.wait_for("exited", pids)


def kill_zygotes(world: World) -> None:
    """No client notices that."""
    pids = [zygote["pid"] for zygote in world.server.ask("status")["zygotes"]]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    world.server.wait_for("zygote_exited", pids)


def stop_worker(world: World, slot: int) -> None:
    """TERM: it is replaced first."""
    if pids := world.pids():
        pid = pids[slot % len(pids)]
        os.kill(pid, signal.SIGTERM)
        world.server.event("leaving", pid=pid)


def reload(world: World) -> None:
    world.version += 1
    world.write_app()
    world.reload()


def reload_broken(world: World, how: str) -> None:
    world.write_app(BROKEN[how])
    reply = world.reload()
    world.write_app()
    assert "refused" in reply, reply


def scale(world: World, size: int) -> None:
    if "refused" not in world.ask("scale", to=size):
        world.size = size


def pause(world: World) -> None:
    if "refused" not in world.ask("pause"):
        world.is_paused = True


def resume(world: World) -> None:
    if "refused" not in world.ask("resume"):
        world.is_paused = False


def upgrade(world: World) -> None:
    world.ask("upgrade")


def change_setting(world: World, name: str, value: str) -> None:
    world.settings[name] = value
    world.reload()


def rollback(world: World) -> None:
    world.ask("rollback", wait=True)


def restart(world: World, slot: int) -> None:
    world.ask("restart", slot=slot % world.size)


def stop_and_start(world: World) -> None:
    world.stop()
    world.start()


def kill_master(world: World) -> None:
    world.kill_master()
    world.start()


def add_address(world: World) -> None:
    world.has_other = True
    world.reload()


def remove_address(world: World) -> None:
    world.has_other = False
    world.reload()


OPERATIONS: dict[str, Operation] = {
    "kill_worker": Operation(4, kill_worker, a_slot),
    "kill_all_workers": Operation(1, kill_all_workers),
    "kill_zygotes": Operation(2, kill_zygotes),
    "stop_worker": Operation(2, stop_worker, a_slot),
    "reload": Operation(5, reload),
    "reload_broken": Operation(
        3, reload_broken, lambda random: {"how": random.choice(sorted(BROKEN))}
    ),
    "scale": Operation(4, scale, lambda random: {"size": random.randint(1, LARGEST)}),
    "pause": Operation(3, pause),
    "resume": Operation(4, resume),
    "upgrade": Operation(3, upgrade),
    "change_setting": Operation(
        3,
        change_setting,
        lambda random: (
            {"name": (name := random.choice(sorted(SETTINGS)))}
            | {"value": random.choice(SETTINGS[name])}
        ),
    ),
    "rollback": Operation(3, rollback),
    "restart": Operation(3, restart, a_slot),
    "stop_and_start": Operation(2, stop_and_start),
    "kill_master": Operation(1, kill_master),
    "add_address": Operation(3, add_address),
    "remove_address": Operation(3, remove_address),
}


def draw(random: Random) -> tuple[str, Arguments]:
    """The next operation."""
    weights = [operation.weight for operation in OPERATIONS.values()]
    (name,) = random.choices(list(OPERATIONS), weights)
    return name, OPERATIONS[name].draw(random)
