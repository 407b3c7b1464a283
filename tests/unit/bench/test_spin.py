"""The bare spin: what samples come to, and once for real."""

import pytest

from clusterd.bench.spin import judged, measure, merged


def test_cores_that_are_all_ours_lose_nothing() -> None:
    spin = judged(2, [(100.0, 100.0)] * 3, [[(100.0, 100.0)] * 2] * 3)
    assert spin.per_second == spin.per_cpu == 1.0
    assert spin.processes == 2
    assert (len(spin.one), len(spin.each)) == (3, 6)


def test_one_core_for_two_halves_what_a_second_gives_and_not_what_a_cpu_second_does() -> None:
    spin = judged(2, [(100.0, 100.0)], [[(50.0, 100.0)] * 2])
    assert spin.per_second == 0.5
    assert spin.per_cpu == 1.0


def test_a_neighbour_that_slows_a_core_shows_in_both() -> None:
    spin = judged(4, [(100.0, 100.0)], [[(80.0, 80.0)] * 4])
    assert spin.per_second == pytest.approx(0.8)
    assert spin.per_cpu == pytest.approx(0.8)


def test_a_turn_that_was_disturbed_does_not_count() -> None:
    turns = [[(100.0, 100.0)] * 2, [(10.0, 10.0)] * 2, [(100.0, 100.0)] * 2]
    assert judged(2, [(100.0, 100.0)] * 3, turns).per_second == 1.0


def test_rounds_are_merged() -> None:
    one = judged(2, [(100.0, 100.0)], [[(90.0, 90.0)] * 2])
    other = judged(2, [(100.0, 100.0)], [[(70.0, 70.0)] * 2])
    both = merged([one, other])
    assert both is not None
    assert both.per_second == pytest.approx(0.8)
    assert len(both.each) == 4
    assert merged([]) is None


def test_real_processes_count() -> None:
    spin = measure(2, turns=1, seconds=0.001)
    assert len(spin.one) == 1
    assert len(spin.each) == 2
    assert min(spin.one + spin.each) > 0
    assert spin.per_second > 0
