"""The files of singletons' locks: where they lie, whose they are, and what becomes of them."""

import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clusterd.config.settings import Config
from clusterd.core.events import Kind
from clusterd.master import program_locks
from clusterd.master.program_locks import NONE, open_lock
from tests.support.ordinary import give
from tests.support.several import groups, program, up
from tests.support.simulated import Simulation, config


def single(singleton: bool = False, overlap: bool = True) -> Config:
    whole = program()
    return replace(whole, command=replace(whole.command, singleton=singleton, overlap=overlap))


def opened(sim: Simulation, name: str, slot: int = 0) -> int:
    group = sim.cluster.groups[name]
    return open_lock(group, max(group.configs), slot)


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulation]:
    kinds = {"one": single(singleton=True), "turns": single(overlap=False), "free": program()}
    with groups(web=config(1), **kinds) as made:
        made.cluster.control_file = [(f"{tmp_path}/shop.sock", 1)]
        yield made
        program_locks.remove(made.cluster)


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def test_each_keeper_is_given_the_file_opened_anew(sim: Simulation, tmp_path: Path) -> None:
    """Or both had the same lock, and neither kept the other from it."""
    first, second = opened(sim, "one"), opened(sim, "one")
    assert os.path.sameopenfile(first, second)
    fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(BlockingIOError):
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not os.get_inheritable(first)
    assert names(tmp_path) == ["clusterd.one.singleton"]
    about = os.fstat(first)
    assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (os.geteuid(), 0o600)
    program_locks.remove(sim.cluster)
    assert names(tmp_path) == ["clusterd.one.singleton"], "it is held"
    os.close(first)
    os.close(second)
    os.close(opened(sim, "one"))
    program_locks.remove(sim.cluster)
    assert names(tmp_path) == []


def test_each_slot_has_a_lock_where_they_must_not_overlap(sim: Simulation, tmp_path: Path) -> None:
    for slot in (0, 1):
        os.close(opened(sim, "turns", slot))
    assert names(tmp_path) == ["clusterd.turns#0.singleton", "clusterd.turns#1.singleton"]


@pytest.mark.parametrize("name", ["free", "web"])
def test_other_groups_need_none(name: str, sim: Simulation, tmp_path: Path) -> None:
    assert opened(sim, name) == NONE
    assert names(tmp_path) == []


def test_where_there_is_no_runtime_directory_it_has_no_name(tmp_path: Path) -> None:
    with groups(one=single(singleton=True)) as sim:
        first, second = (opened(sim, "one") for _ in range(2))
        assert os.path.sameopenfile(first, second)
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(first)
        os.close(second)
        program_locks.remove(sim.cluster)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_file_of_another_user_is_refused_and_the_reason_journaled(
    sim: Simulation, tmp_path: Path
) -> None:
    path = tmp_path / "clusterd.one.singleton"
    path.touch(0o666)
    give(path)
    reason = f"{path} cannot be used as a lock: it belongs to user nobody"
    sim.until(lambda: bool(sim.find(Kind.SPAWN_FAILED, group="one", reason=reason)))
    path.unlink()
    up(sim)


def test_what_is_no_file_is_refused(sim: Simulation, tmp_path: Path) -> None:
    path = tmp_path / "clusterd.one.singleton"
    os.mkfifo(path)
    with pytest.raises(OSError, match="cannot be used as a lock: it is a FIFO"):
        opened(sim, "one")
    path.unlink()
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        opened(sim, "one")
    assert not (tmp_path / "victim").exists()
