"""Lines of the log that are sentences for people, and objects for machines."""

from typing import Any

import pytest

from clusterd.core.events import Event, Kind
from clusterd.master import logbook
from tests.support.simulated import simulated  # noqa: F401


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"urls": ["http://127.0.0.1:8000"], "workers": 4, "seconds": 0.912},
            "ready on http://127.0.0.1:8000 in 0.9 s, 4 workers",
        ),
        ({"workers": 1, "seconds": 0.04}, "ready in 0.0 s, 1 worker"),
        (
            {"urls": [f"http://[::1]:{n}" for n in range(6)], "workers": 1, "seconds": 2.0},
            "ready on http://[::1]:0, http://[::1]:1, http://[::1]:2, http://[::1]:3 and 2 more "
            "in 2.0 s, 1 worker",
        ),
    ],
)
def test_the_end_of_a_start_is_a_sentence(fields: dict[str, Any], line: str) -> None:
    assert logbook.ready(Event(1, 0.0, Kind.READY, fields)) == line
