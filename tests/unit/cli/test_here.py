"""Which cluster a command means, and what it says where it finds none."""

import subprocess
import sys
from pathlib import Path

from clusterd.cli.here import hints_at
from clusterd.master.holder import Master

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


def test_where_the_control_socket_cannot_be_known_its_user_is_told() -> None:
    """As to an ordinary user who may not look into another user's processes."""
    one = Master(2**22 + 1, 0, "blue", "shop.main:app")  # beyond the highest pid that Linux gives
    told = "There is the cluster 'blue' (shop.main:app, pid 4194305), "
    assert hints_at([one], 7) == [f"{told}and it is root's: run the command as root."]
    assert hints_at([one], 0) == [
        f"{told}which was started with another --runtime-dir: say the same one."
    ]
