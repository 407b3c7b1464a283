"""What the master becomes at an upgrade in place, and the trial of it: `resume run|trial FD`.

No command that people type: FD is a memfd with the state. What is imported here is imported again
at every upgrade while clients of the control socket wait, so no more than the master needs; and
whatever fails here fails in the trial first.
"""

import functools
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from clusterd import __version__
from clusterd.cli.deciding import decide, identity
from clusterd.config.settings import Config
from clusterd.core import log
from clusterd.core.errors import ClusterdError
from clusterd.core.exits import Exit
from clusterd.kernel import faulty, memory
from clusterd.kernel.process import set_parent_death_signal
from clusterd.kernel.real import Kernel
from clusterd.master.cluster import Cluster
from clusterd.master.resume import carry_on
from clusterd.master.state import State, read
from clusterd.master.trial import FIT


def main() -> int:
    """The exit status: of the cluster, or of the trial."""
    gc.disable()  # what is imported and read now stays for life
    role, number = sys.argv[1], int(sys.argv[2])
    if role == "trial":
        set_parent_death_signal(signal.SIGKILL)  # we hold all that it holds
        attempt(number)
    kernel = faulty.wrap(Kernel())
    state, previous = take_over(number, kernel)
    os.close(number)
    config = state.cluster.config.log
    log.set_up(
        state.cluster.log_fd, config.log_format, config.log_level, identity(state.cluster.config)
    )
    return carry_on(state, previous)


def take_over(number: int, kernel: Kernel) -> tuple[State, str]:
    """The state, ready to go on, and the version that wrote it. Raises Unfit."""
    state, previous = read(memory.stored(number), kernel, ours)
    state.cluster.reread = reread(state.cluster)
    return state, previous


def ours(number: int) -> int:
    """A descriptor that was passed on, from now on kept from those whom we start."""
    if number > 2:
        os.set_inheritable(number, False)
    else:
        os.fstat(number)
    return number


def reread(cluster: Cluster) -> Callable[[], dict[str, Config]]:
    """Settings as they were decided at the start: by the same words, from the same place."""
    return functools.partial(decide, cluster.given, Path(cluster.directory))


def attempt(number: int) -> NoReturn:
    """Do all that will be done, short of acting: then it can be done. Never returns."""
    code = 1
    try:
        state, _ = take_over(number, Kernel())
        state.cluster.reread()
        import clusterd.child
        import clusterd.worker.main  # noqa: F401  # what zygotes will need

        print(f"{FIT} {__version__}", flush=True)
        code = Exit.OK
    except ClusterdError as error:
        print("; ".join(filter(None, (error.message, error.remedy))), flush=True)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)  # nothing of what we were given is ours to close or to remove


if __name__ == "__main__":
    sys.exit(main())
