"""What the master executes at an upgrade in place, and its trial: `resume run|trial FD`.

No command that people type: FD is a memfd with the state. Little is imported here, so that what
must come first does: a trial must not outlive the master, since it holds all that the master does.
"""

import gc
import signal
import sys


def main() -> int:
    """The exit status: of the cluster, or of the trial."""
    gc.disable()  # what is imported and read from now on stays for life
    role, number = sys.argv[1], int(sys.argv[2])
    if role == "trial":
        from clusterd.kernel.process import set_parent_death_signal

        set_parent_death_signal(signal.SIGKILL)
    from clusterd.cli.successor import attempt, succeed

    return attempt(number) if role == "trial" else succeed(number)


if __name__ == "__main__":
    sys.exit(main())
