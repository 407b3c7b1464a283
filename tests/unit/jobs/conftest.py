"""What tests of job stores share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.job_stores import STORES, Clock, Desk

ENGINES = [
    pytest.param(name, marks=pytest.mark.redis if name == "redis" else ())
    for name in sorted(STORES)
]


@pytest.fixture(params=ENGINES)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """An open store of each engine."""
    clock = Clock()
    desk = Desk(STORES[request.param](tmp_path, clock), clock)
    with desk.runner:
        desk.run(desk.store.open())
        yield desk
        desk.run(desk.store.close())
