"""A place that users other than root may look into."""

import shutil
import subprocess
import sys
from pathlib import Path

# In a mount namespace of its own, see mount_namespaces(7), directories that only their owner may
# enter are open to all: an overlay has its own mode, and what lies below keeps its own.
OPEN = """
set -e
mount --make-rprivate /
upper=$(mktemp -d)
mount -t tmpfs none "$upper"
number=0
while [ "$1" != -- ]; do
    number=$((number + 1))
    mkdir "$upper/$number" "$upper/$number-work"
    mount -t overlay none \
        -o "lowerdir=$1,upperdir=$upper/$number,workdir=$upper/$number-work" "$1"
    chmod 755 "$1"
    shift
done
shift
exec "$@"
"""


def closed(*paths: Path) -> list[Path]:
    """The directories on the way to these that others may not enter, outermost first."""
    ways = {parent for path in paths for parent in (path, *path.parents)}
    return sorted(way for way in ways if way.is_dir() and not way.stat().st_mode & 0o001)


def opening(*paths: Path) -> tuple[str, ...] | None:
    """What to put before a command so that any user can read the interpreter, clusterd and
    `paths`; None where that cannot be had."""
    needed = (Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[2], *paths)
    shut = closed(*needed)
    if not shut:
        return ()
    if shutil.which("unshare") is None:
        return None
    wrapper = ("unshare", "--mount", "sh", "-c", OPEN, "sh", *map(str, shut), "--")
    done = subprocess.run([*wrapper, "true"], capture_output=True, check=False)
    return wrapper if done.returncode == 0 else None
