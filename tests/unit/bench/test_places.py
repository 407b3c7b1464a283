"""Who gets which CPUs."""

import os

import pytest

from clusterd.bench.places import Places, cores, places, spare


def alone(count: int) -> list[tuple[int, ...]]:
    """So many cores of one CPU each."""
    return [(cpu,) for cpu in range(count)]


def halves(count: int) -> list[tuple[int, ...]]:
    """So many cores of two CPUs, numbered as Linux does it: 0 and `count` are one core."""
    return [(cpu, cpu + count) for cpu in range(count)]


@pytest.mark.parametrize(
    ("count", "left"), [(1, 0), (2, 0), (3, 1), (4, 1), (7, 1), (16, 4), (64, 16)]
)
def test_one_cpu_in_four_is_left_to_generators_where_there_are_three(count: int, left: int) -> None:
    assert spare(alone(count)) == left


@pytest.mark.parametrize(("count", "left"), [(1, 0), (2, 2), (3, 2), (8, 4), (32, 16)])
def test_what_is_left_to_generators_are_whole_cores(count: int, left: int) -> None:
    assert spare(halves(count)) == left


def test_one_cpu_is_shared() -> None:
    assert places(alone(1), 1, 1) == Places((), (), shared=True)


def test_two_cpus_are_one_each_for_a_single_worker_and_shared_for_two() -> None:
    assert places(alone(2), 1, 1) == Places((0,), (1,), shared=False)
    assert places(alone(2), 2, 1) == Places((), (), shared=True)


def test_four_cpus_are_apart_up_to_three_workers() -> None:
    assert places(alone(4), 3, 1) == Places((0, 1, 2), (3,), shared=False)
    assert places(alone(4), 1, 1) == Places((0, 1, 2), (3,), shared=False)
    assert places(alone(4), 4, 1) == Places((), (), shared=True)


@pytest.mark.parametrize(("count", "workers"), [(16, 12), (64, 48)])
def test_generators_get_what_is_spare_and_more_of_them_find_room(count: int, workers: int) -> None:
    cpus = alone(count)
    assert workers == count - spare(cpus)
    for generators in (1, 2, 4):
        found = places(cpus, workers, generators)
        assert found.server == tuple(range(workers))
        assert found.generators == tuple(range(workers, count))
        assert not found.shared


def test_workers_that_need_what_is_spare_leave_only_what_generators_need() -> None:
    found = places(alone(16), 15, 1)
    assert (found.server, found.generators) == (tuple(range(15)), (15,))
    assert places(alone(16), 16, 1).shared
    assert places(alone(16), 15, 2).shared


def test_a_core_of_two_halves_goes_to_one_of_them() -> None:
    found = places(halves(4), 4, 1)
    assert found == Places((0, 4, 1, 5, 2, 6), (3, 7), shared=False)


def test_halves_of_one_core_are_told_apart_but_count_as_shared() -> None:
    assert places(halves(1), 1, 1) == Places((0,), (1,), shared=True)
    assert places(halves(2), 3, 1) == Places((0, 2, 1), (3,), shared=True)


@pytest.mark.parametrize("count", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("pairs", [False, True])
def test_nobody_is_left_without_a_cpu_and_apart_means_apart(count: int, pairs: bool) -> None:
    cpus = halves(count) if pairs else alone(count)
    every = {cpu for core in cpus for cpu in core}
    for workers in range(len(every) + 2):
        for generators in (1, 2, 3, len(every)):
            found = places(cpus, workers, generators)
            assert bool(found.server) == bool(found.generators)
            if found.server:
                assert not set(found.server) & set(found.generators)
                assert set(found.server) | set(found.generators) == every
                assert len(found.server) >= workers
                assert len(found.generators) >= generators
            if not found.shared:
                mixed = [core for core in cpus if set(core) & set(found.server)]
                assert not {cpu for core in mixed for cpu in core} & set(found.generators)


def test_a_server_of_others_is_not_placed() -> None:
    assert places(alone(16), 0, 1) == Places((), (), shared=True)


def test_the_machine_s_cores_are_those_that_we_may_use() -> None:
    assert sorted(cpu for core in cores() for cpu in core) == sorted(os.sched_getaffinity(0))
