"""What several tests of the master share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.desk import Desk
from tests.support.simulated import simulated


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
