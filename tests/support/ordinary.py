"""Run something as a user without any right, also where the tests are the superuser's.

`python -m tests.support.ordinary ARGUMENTS` runs pytest with these arguments as such a user.
"""

import os
import pwd
import sys
import tempfile
from pathlib import Path

from tests.support.rights import opening

USER = "nobody"
SKIPPED = 77  # exit status where no command can be run as another user, as automake's tests have it
# No capability can be had, not even by a program that gives them to all (setpriv(1)).
WITHOUT_RIGHTS = (
    "--clear-groups",
    "--bounding-set",
    "-all",
    "--inh-caps",
    "-all",
    "--no-new-privs",
)


class Unavailable(Exception):
    """No command can be run as another user here."""


def as_ordinary_user(*paths: Path, ambient: str = "") -> tuple[str, ...]:
    """What to put before a command, which can then read `paths`. Raises Unavailable.

    Nothing, where we are an ordinary user already. `ambient`: capabilities that it has all the
    same, as setpriv(1) names them, as by AmbientCapabilities= of systemd.
    """
    if os.geteuid() != 0:
        return ()
    wrapper = opening(*paths)
    if wrapper is None:
        raise Unavailable("the interpreter is closed to others, and no mount namespace can open it")
    if ambient:
        return (*wrapper, *with_ambient(ambient))
    return (*wrapper, "setpriv", *_ids(), *WITHOUT_RIGHTS)


def with_ambient(capabilities: str) -> tuple[str, ...]:
    """What to put before a command to run it as that user, but with these capabilities."""
    sets = ("--inh-caps", capabilities, "--ambient-caps", capabilities)
    return ("setpriv", *_ids(), "--clear-groups", *sets)


def _ids() -> tuple[str, ...]:
    user = pwd.getpwnam(USER)
    return ("--reuid", str(user.pw_uid), "--regid", str(user.pw_gid))


def give(path: Path) -> None:
    """Have the ordinary user own a file or directory."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(path, user.pw_uid, user.pw_gid)


def main() -> None:
    """Become that user, and pytest."""
    try:
        wrapper = as_ordinary_user()
    except Unavailable as error:
        print(error, file=sys.stderr)
        sys.exit(SKIPPED)
    home = Path(tempfile.mkdtemp(prefix="clusterd-"))
    give(home)
    own = dict.fromkeys(("HOME", "TMPDIR", "HYPOTHESIS_STORAGE_DIRECTORY"), str(home))
    environment = {**os.environ, **own}
    # pytest's own name for it would make the paths of Unix sockets too long.
    options = ("-p", "no:cacheprovider", "--basetemp", str(home / "t"))
    command = (*wrapper, sys.executable, "-m", "pytest", *options, *sys.argv[1:])
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    main()
