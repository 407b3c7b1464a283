"""The last word of a master that no longer turns."""

import faulthandler


def explain_abort() -> None:
    """Have SIGABRT, by which a watchdog ends a process, write where it was to standard error.

    systemd.service(5), WatchdogSignal=. What a crash in C leaves is written as well.
    """
    faulthandler.enable(2, all_threads=False)
