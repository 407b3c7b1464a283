"""Two minutes of one seed; and the parts of the driver that need no cluster."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.soak import drive
from tests.soak.judges import Observation, faults
from tests.soak.operations import OPERATIONS, draw


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_minutes_of_random_operations() -> None:
    outcome = drive.run(drive.drawn(seed=1, minutes=2))
    assert outcome.found == [], "\n".join(drive.dump(step) for step in outcome.steps)
    assert outcome.responses


def test_a_cluster_at_rest_has_no_fault() -> None:
    seen = Observation("scale", 2, ["ready", "ready"], {3}, numbers=[4, 5, 6])
    seen.counters_before, seen.counters = {"requests": 4, "open": 3}, {"requests": 5, "open": 3}
    assert faults(seen) == []


@pytest.mark.parametrize(
    ("judge", "seen"),
    [
        ("sizes_converge", Observation("scale", 2, ["ready"])),
        ("sizes_converge", Observation("pause", 0, ["draining"])),
        ("one_generation_serves", Observation("reload", 0, generations={1, 2})),
        ("one_generation_serves", Observation("reload", 0, rolling=True)),
        ("one_generation_serves", Observation("reload", 0, versions={"1", "2"})),
        ("no_request_fails", Observation("reload", 0, failures=["reset"])),
        ("descriptors_are_bounded", Observation("reload", 0, descriptors=100)),
        ("memory_is_bounded", Observation("reload", 0, memory=2**30)),
        ("the_journal_has_no_gap", Observation("reload", 0, numbers=[1, 3])),
        ("counters_never_go_back", Observation("reload", 0, counters_before={"requests": 1})),
        ("a_stop_ends_well", Observation("stop_and_start", 0, exits=[0, 70])),
        ("nothing_is_left", Observation("stop_and_start", 0, left=1)),
        ("no_bug_is_logged", Observation("upgrade", 0, bugs=["this is a bug in clusterd"])),
    ],
)
def test_each_judge_finds_its_fault(judge: str, seen: Observation) -> None:
    (fault,) = faults(seen)
    assert fault.startswith(f"{judge}: ")


def test_what_a_killed_worker_had_in_hand_may_be_lost() -> None:
    seen = Observation("kill_worker", 0, failures=["reset"], may_fail=True)
    assert faults(seen) == []


def test_the_same_seed_draws_the_same_operations() -> None:
    one, other = Random(7), Random(7)
    drawn = [draw(one) for _ in range(300)]
    assert drawn == [draw(other) for _ in range(300)]
    assert {name for name, _ in drawn} == set(OPERATIONS)


def test_what_is_recorded_is_replayed(tmp_path: Path) -> None:
    random = Random(3)
    steps = [draw(random) for _ in range(50)]
    file = tmp_path / "operations"
    file.write_text("".join(f"{drive.dump(step)}\n" for step in steps))
    assert drive.load(file) == steps


def test_a_failure_is_shortened_to_what_it_needs() -> None:
    steps: list[drive.Step] = [("scale", {"size": number}) for number in range(40)]
    needed = [steps[7], steps[31]]

    def fails(some: Sequence[drive.Step]) -> bool:
        return all(step in some for step in needed)

    assert drive.shorten(steps, fails, tries=100) == needed
    assert set(map(str, needed)) <= set(map(str, drive.shorten(steps, fails, tries=5)))
