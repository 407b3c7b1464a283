"""Which cluster a command means, and what it says where it finds none."""

import subprocess
import sys
from pathlib import Path

# Asks as a user to whom the directory above the runtime directory is closed, as after `su`, which
# leaves XDG_RUNTIME_DIR as it was.
ASKING = """
import os, sys
from clusterd.cli.here import missing
from clusterd.config.settings import PlaceSettings
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
place = PlaceSettings(runtime_dir=sys.argv[1])
print(*missing(place, "", ""), sep="\\n")
"""


def test_a_runtime_directory_in_a_closed_one_is_told(tmp_path: Path) -> None:
    session = tmp_path / "session"
    (session / "clusterd").mkdir(parents=True)
    owner = session.owner()
    session.chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASKING, str(session / "clusterd")],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        session.chmod(0o700)
    assert done.returncode == 0, done.stderr
    message, hint = done.stdout.splitlines()
    assert message == f"no cluster runs: there is no control socket in {session}/clusterd"
    assert hint.endswith(f" belongs to {owner}: run the command as {owner}.")
