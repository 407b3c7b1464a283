"""The journal: numbered, bounded, and complete since any number still in it."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.core.events import Event, Kind
from clusterd.ipc.journal import GONE, KEPT, MOST_TEXT, Journal


def filled(count: int) -> Journal:
    journal = Journal(lambda: 5.0)
    for number in range(count):
        journal.append(Kind.SPAWNED, slot=number)
    return journal


def test_events_are_numbered_from_one_and_carry_what_was_said() -> None:
    event = Journal(lambda: 5.0).append(Kind.SPAWNED, slot=3)
    assert event == Event(1, 5.0, Kind.SPAWNED, {"slot": 3})
    assert event.flat() == {"n": 1, "time": 5.0, "kind": "spawned", "slot": 3}


@given(count=st.integers(0, 40), since=st.integers(-5, 50))
def test_since_gives_all_after_a_number_oldest_first(count: int, since: int) -> None:
    numbers = [event.number for event in filled(count).since(since)]
    assert numbers == list(range(max(since, 0) + 1, count + 1))


def test_only_so_many_are_kept_and_numbers_go_on() -> None:
    journal = filled(KEPT + 10)
    assert journal.last == KEPT + 10
    assert [event.number for event in journal.since(0)] == list(range(11, KEPT + 11))
    assert [event.number for event in journal.since(KEPT + 8)] == [KEPT + 9, KEPT + 10]


def test_listeners_hear_each_event_as_it_is_written() -> None:
    journal, heard = Journal(lambda: 0.0), list[Event]()
    journal.append(Kind.STARTED)
    journal.listen(heard.append)
    event = journal.append(Kind.READY)
    assert heard == [event]


def test_stacks_are_bounded_by_their_size_and_the_latest_stay() -> None:
    """A dump of many workers, again and again, must not grow the master."""
    journal = Journal(lambda: 0.0)
    text = "x" * 60_000
    count = 2 * MOST_TEXT // len(text)
    for number in range(count):
        journal.append(Kind.DUMPED, slot=number, traceback=text)
    found = [event.fields["traceback"] for event in journal.since(0)]
    assert len(found) == count
    assert sum(map(len, found)) <= MOST_TEXT + count * len(GONE)
    assert found.count(text) > MOST_TEXT // len(text) - 3, "as many as there is room for"
    assert (found[0], found[-1]) == (GONE, text)
    again = Journal.restored(journal.since(0), journal.last, lambda: 0.0)
    again.append(Kind.DUMPED, traceback="y" * (MOST_TEXT // 2))
    assert sum(len(event.fields["traceback"]) for event in again.since(0)) <= 1.1 * MOST_TEXT
    again.append(Kind.DUMPED, traceback="z" * 2 * MOST_TEXT)
    assert len(again.since(0)[-1].fields["traceback"]) == 2 * MOST_TEXT, "the latest is whole"


@pytest.mark.parametrize("character", ["x", "ü", "“", "🎂"])
def test_reasons_and_every_other_long_text_are_bounded_too(character: str) -> None:
    """Each character of a text takes as many bytes as the widest one in it."""
    journal = Journal(lambda: 0.0)
    text = "x" * 16_000 + character
    for number in range(KEPT):
        journal.append(Kind.BUSY, slot=number, reason=text, advice=text)
    held = [event.fields["reason"] for event in journal.since(0)]
    kept = [one for one in held if one == text]
    assert held[-1] == text
    assert 0 < 2 * sum(map(sys.getsizeof, kept)) <= MOST_TEXT
