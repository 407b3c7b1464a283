"""`python -m clusterd`, the same as `clusterd`."""

import sys

if not sys.flags.safe_path:
    # `python -m` searches modules in the current directory first. As root we must not import what
    # another user has put there. Zygotes search the application's directory by themselves.
    del sys.path[0]

from clusterd.cli.main import main  # the path comes first

if __name__ == "__main__":
    main()
