"""The tests that lean on the interpreter most, on Pythons newer than this machine's."""

import pytest

from tests.box import test_box
from tests.box.rig import Unavailable
from tests.newest import rig

COMMAND = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]  # the tree is read-only there
TESTS = ["tests/unit", "tests/conformance"]
PROCESSES = ("identity", "imports", "lazy", "life", "logs", "reload", "upgrade", "faults")
TESTS += [f"tests/process/test_{name}.py" for name in PROCESSES]


@pytest.mark.newest
@pytest.mark.timeout(rig.LIMIT + 900)  # the first time the root has to be made
@pytest.mark.parametrize("version", rig.VERSIONS)
def test_the_suite_passes(version: str) -> None:
    try:
        outcome = rig.run(version, [*COMMAND, *TESTS])
    except Unavailable as error:
        pytest.skip(f"there is no Python {version}: {error}")
    print(outcome.output)
    assert outcome.status == 0


@pytest.mark.newest
@pytest.mark.systemd
@pytest.mark.timeout(rig.LIMIT)  # the first time the root has to be made
def test_services_under_the_newest_systemd() -> None:
    python = f"python{rig.BOOTED}"
    try:
        outcome = rig.boot([python, *test_box.COMMAND[1:], "tests/box/inside"])
    except Unavailable as error:
        pytest.skip(f"there is no box of {rig.SUITE}: {error}")
    print(outcome.output)
    assert outcome.status == 0
