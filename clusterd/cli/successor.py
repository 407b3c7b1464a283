"""The composition root after an upgrade in place: the master put together from its state.

Clients of the control socket wait while this is imported, so it is no more than the master needs.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from clusterd import __version__
from clusterd.config.place import identity
from clusterd.config.settings import Config
from clusterd.core import log
from clusterd.core.errors import ClusterdError
from clusterd.core.exits import Exit
from clusterd.kernel import faulty, memory, own_files
from clusterd.kernel.nonblocking import open_masters
from clusterd.kernel.real import Kernel
from clusterd.master import trusted_paths
from clusterd.master.cluster import Cluster
from clusterd.master.resume import carry_on
from clusterd.master.state import State, read
from clusterd.master.trial import FIT


def succeed(number: int) -> int:
    """Be the master, from the state in this memfd on; the exit status."""
    state, previous = take_over(number, faulty.wrap(Kernel()))
    os.close(number)
    cluster, settings = state.cluster, state.cluster.config
    name = identity(settings.place)
    if (path := settings.log.log_file) and own_files.descriptor_of(path) is None:
        own_files.set_flags_again(cluster.log_fd)
    log.set_up(
        cluster.log_fd,
        settings.log.log_format,
        settings.log.log_level,
        name,
        open_masters,
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

    def again() -> dict[str, Config]:
        from clusterd.cli.deciding import decide  # a reload can wait for it

        return decide(cluster.given, Path(cluster.directory))

    return again


def attempt(number: int) -> NoReturn:
    """Do all that will be done, short of acting: then it can be done. Never returns."""
    code = Exit.FAILED
    try:
        state, _ = take_over(number, Kernel())
        if os.getppid() != state.cluster.pid:
            os._exit(code)  # it ended before we asked to be ended with it
        trusted_paths.refuse_code(state.cluster.reread(), os.environ)
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
