"""`python -m tests.newest VERSION COMMAND…`: run something with a new Python, in this tree.

What it writes is thrown away, except in /keep, which is the directory that $KEEP names.
"""

import os
import sys
from pathlib import Path

from tests.box.rig import Unavailable
from tests.newest import rig

if len(sys.argv) < 3 or sys.argv[1] not in rig.VERSIONS:
    sys.exit(f"{__doc__}\nExample: python -m tests.newest 3.15 python -m pytest -n 0 tests/unit")
keep = os.environ.get("KEEP")
try:
    outcome = rig.run(sys.argv[1], sys.argv[2:], Path(keep) if keep else None)
except Unavailable as error:
    sys.exit(f"there is no such Python: {error}")
print(outcome.output, end="")
sys.exit(outcome.status)
