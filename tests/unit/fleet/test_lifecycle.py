"""A worker's life: every pair of phase and cue is legal, moot, or can only be a bug."""

import pytest

from clusterd.core.errors import Bug
from clusterd.fleet.lifecycle import LEGAL, LIVE, MOOT, Cue, Phase, step

# What can only be our bug: a ready worker is never overdue for anything but its boot, and nobody
# who was reaped is heard of again.
IMPOSSIBLE = {(Phase.GONE, cue) for cue in Cue}
PAIRS = [(phase, cue) for phase in Phase for cue in Cue]


def test_the_table_is_total() -> None:
    assert LEGAL.keys() | MOOT | IMPOSSIBLE == set(PAIRS)


def test_no_pair_is_in_two_tables() -> None:
    assert not LEGAL.keys() & MOOT
    assert not LEGAL.keys() & IMPOSSIBLE
    assert not MOOT & IMPOSSIBLE


@pytest.mark.parametrize(("phase", "cue"), PAIRS, ids=lambda pair: str(pair))
def test_a_step_does_what_the_tables_say(phase: Phase, cue: Cue) -> None:
    if (phase, cue) in IMPOSSIBLE:
        with pytest.raises(Bug, match="gone"):
            step(phase, cue)
    else:
        assert step(phase, cue) is LEGAL.get((phase, cue), phase)


def test_every_phase_is_reached_and_all_lead_to_gone() -> None:
    reached = {Phase.BOOTING}
    for _ in Phase:
        reached |= {after for (before, _), after in LEGAL.items() if before in reached}
    assert reached == set(Phase)
    assert all(step(phase, Cue.EXITED) is Phase.GONE for phase in Phase if phase is not Phase.GONE)


def test_nobody_comes_back_to_life() -> None:
    """The plan counts on the living: who left them never returns among them."""
    back = [pair for pair, after in LEGAL.items() if pair[0] not in LIVE and after in LIVE]
    assert back == []
