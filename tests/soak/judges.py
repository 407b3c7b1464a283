"""What must hold after each operation: pure functions over what was observed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SPARE_FDS = 8  # descriptors beside those of workers and zygotes: commands that are being answered
SPARE_MEMORY = 24 * 2**20  # bytes; the journal alone grows to a few MiB


@dataclass
class Observation:
    """The cluster after an operation, once it had the time to settle."""

    operation: str
    size: int  # workers wanted; 0 in a pause
    phases: list[str] = field(default_factory=list)  # of each worker that there is
    generations: set[int] = field(default_factory=set)  # of each worker
    rolling: bool = False
    versions: set[str] = field(default_factory=set)  # of the application, in some responses
    failures: list[str] = field(default_factory=list)  # of clients, since the operation before
    may_fail: bool = False  # a worker was killed: what it had in hand is lost
    descriptors: int = 0  # of the master, beside those for its workers, zygotes and listeners
    descriptors_at_first: int = 0
    memory: int = 0  # bytes of the master
    memory_at_first: int = 0
    numbers: list[int] = field(default_factory=list)  # of the events of this run
    counters: dict[str, int] = field(default_factory=dict)
    counters_before: dict[str, int] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)  # statuses of masters that were asked to stop
    left: int = 0  # processes that a stopped master left
    bugs: list[str] = field(default_factory=list)  # log lines that say so


def sizes_converge(seen: Observation) -> str:
    wanted = ["ready"] * seen.size
    return "" if seen.phases == wanted else f"{seen.size} workers are wanted: {seen.phases}"


def one_generation_serves(seen: Observation) -> str:
    if seen.rolling or len(seen.generations) > 1:
        return f"generations {sorted(seen.generations)}, rolling: {seen.rolling}"
    return f"versions {sorted(seen.versions)} serve" if len(seen.versions) > 1 else ""


def no_request_fails(seen: Observation) -> str:
    if seen.may_fail or not seen.failures:
        return ""
    return f"{len(seen.failures)} failed, such as: {'; '.join(seen.failures[:3])}"


def descriptors_are_bounded(seen: Observation) -> str:
    more = seen.descriptors - seen.descriptors_at_first
    return f"the master has {more} descriptors more" if more > SPARE_FDS else ""


def memory_is_bounded(seen: Observation) -> str:
    more = seen.memory - seen.memory_at_first
    return f"the master has grown by {more >> 20} MiB" if more > SPARE_MEMORY else ""


def the_journal_has_no_gap(seen: Observation) -> str:
    for before, after in zip(seen.numbers, seen.numbers[1:], strict=False):
        if after != before + 1:
            return f"event {after} follows event {before}"
    return ""


def counters_never_go_back(seen: Observation) -> str:
    back = [
        f"{name} from {before} to {seen.counters.get(name, 0)}"
        for name, before in seen.counters_before.items()
        if name not in GAUGES and seen.counters.get(name, 0) < before
    ]
    return f"went back: {', '.join(back)}" if back else ""


GAUGES = {"connections", "in_flight"}


def a_stop_ends_well(seen: Observation) -> str:
    wrong = [status for status in seen.exits if status]
    return f"exit status {wrong[0]}" if wrong else ""


def nothing_is_left(seen: Observation) -> str:
    return f"{seen.left} processes are left" if seen.left else ""


def no_bug_is_logged(seen: Observation) -> str:
    return seen.bugs[0] if seen.bugs else ""


JUDGES: Sequence[Callable[[Observation], str]] = (
    sizes_converge,
    one_generation_serves,
    no_request_fails,
    descriptors_are_bounded,
    memory_is_bounded,
    the_journal_has_no_gap,
    counters_never_go_back,
    a_stop_ends_well,
    nothing_is_left,
    no_bug_is_logged,
)


def faults(seen: Observation) -> list[str]:
    """All that does not hold, each with the name of its judge."""
    found = ((judge.__name__, judge(seen)) for judge in JUDGES)
    return [f"{name}: {fault}" for name, fault in found if fault]
