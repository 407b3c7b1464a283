"""The tests inside the box, run in one."""

import pytest

from tests.box import rig

COMMAND = ["python3", "-m", "pytest", "-m", "systemd", "-n", "0", "-v"]
COMMAND += ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]  # the tree is read-only there


@pytest.mark.systemd
@pytest.mark.timeout(600)  # the first time the box has to be made
def test_services_under_a_real_systemd() -> None:
    try:
        outcome = rig.run([*COMMAND, "tests/box/inside"])
    except rig.Unavailable as error:
        pytest.skip(f"there is no box: {error}")
    print(outcome.output)
    assert outcome.status == 0
