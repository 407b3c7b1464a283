"""`python -m tests.box COMMAND…`: run something under a real systemd, as root, in this tree."""

import sys

from tests.box import rig

if len(sys.argv) == 1:
    sys.exit(f"{__doc__}\nExample: python -m tests.box systemctl --version")
try:
    outcome = rig.run(sys.argv[1:])
except rig.Unavailable as error:
    sys.exit(f"no box: {error}")
print(outcome.output, end="")
sys.exit(1 if outcome.status is None else outcome.status)
