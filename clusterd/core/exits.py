"""Exit statuses of `clusterd`. 0 means exactly "stopped because asked"."""

import enum


class Exit(enum.IntEnum):
    """Why the process ended, for whoever started it (after sysexits.h where one fits)."""

    OK = 0
    FAILED = 1  # a command reached the cluster, and what it asked for did not succeed
    NEVER_READY = 3  # no worker ever became ready
    CONFIG = 4
    BIND = 5
    BUG = 70  # EX_SOFTWARE
