"""Identifiers of jobs."""

import uuid

from clusterd.jobs.ids import new_id

NOW = 4_000_000_000_123_456  # later than any test runs


def test_an_identifier_is_a_uuid_of_version_7_with_the_time() -> None:
    made = uuid.UUID(new_id(NOW))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == NOW // 1000
    assert len(made.hex) == 32


def test_identifiers_of_a_process_grow_also_within_a_microsecond() -> None:
    made = [new_id(NOW) for _ in range(5000)]
    assert made == sorted(made)
    assert len({one[:18] for one in made}) > 4000  # by their time, not by chance
