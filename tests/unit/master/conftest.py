"""What several tests of the master share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import setproctitle

from tests.support.desk import Desk
from tests.support.simulated import simulated


@pytest.fixture(autouse=True)
def own_title() -> Iterator[None]:
    """Undo what a test has the process table show: by that, clusters are found."""
    title = setproctitle.getproctitle()
    yield
    if setproctitle.getproctitle() != title:
        setproctitle.setproctitle(title)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with simulated(2) as sim:
        sim.start()
        made = Desk(sim, tmp_path / "c.sock")
        yield made
        made.control.close()
        for caller in made.callers:
            caller.sock.close()
        assert list(tmp_path.iterdir()) == []
