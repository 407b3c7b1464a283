"""Starting a program of somebody else's, and ending all that it started."""

import contextlib
import fcntl
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clusterd.kernel.fork import fork_into
from clusterd.kernel.process import set_parent_death_signal

FIRST = 3  # the first descriptor after the standard ones, and of LISTEN_FDS (sd_listen_fds(3))
ASIDE = 200  # where a descriptor goes that the program is not to stumble over
NOT_RUN = 127  # what a shell says of a program that cannot be started
SAVED_ERRNO = 4  # bytes of an errno on its way from the child


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how. `output` is its standard output and error; `sockets` go to it from
    descriptor 3 on; `kept` stays open in it, for the lock that lives as long as it does."""

    path: str
    argv: Sequence[str]
    directory: str
    environ: Mapping[str, str]
    output: tuple[int, int]
    sockets: Sequence[int] = field(default_factory=tuple)
    kept: int = -1


def start(program: Program) -> int:
    """Run it in a session of its own; its pid. Raises OSError, also for what fails in the child.

    It dies with us: the kernel kills it when the thread that forked it is gone, and each of our
    processes has but one (PR_SET_PDEATHSIG). The kernel forgets that only where the program gains
    rights by a set-user-ID file.
    """
    mine = os.getpid()
    told, tell = os.pipe()  # close-on-exec: EOF says that the program runs

    def become() -> int:
        os.close(told)
        try:
            _become(program, mine)
        except OSError as error:
            os.write(tell, (error.errno or 1).to_bytes(SAVED_ERRNO, "little"))
        return NOT_RUN

    try:
        pid = fork_into(become)
    finally:
        os.close(tell)
    with open(told, "rb") as pipe:
        number = pipe.read(SAVED_ERRNO)
    if number:
        os.waitpid(pid, 0)
        code = int.from_bytes(number, "little")
        raise OSError(code, os.strerror(code))
    return pid


def _become(program: Program, parent: int) -> None:
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # it died before we had asked
    os.setsid()
    _place(program)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        # What we handle would be reset by exec, but what is ignored stays ignored: by the
        # interpreter (SIGPIPE), or by whoever started the cluster (nohup, say).
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir(program.directory)
    environ = dict(program.environ)
    if program.sockets:
        environ["LISTEN_PID"] = str(os.getpid())
    os.execve(program.path, list(program.argv), environ)


def _place(program: Program) -> None:
    """Put each descriptor where the program looks for it; all others are close-on-exec.

    First they are all moved out of the way, since one's place may be another's number.
    """
    above = FIRST + len(program.sockets)
    with open(os.devnull, "rb") as null:
        wanted = [null.fileno(), *program.output, *program.sockets]
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in wanted]
    for place, fd in enumerate(moved):
        os.dup2(fd, place, inheritable=True)
    if program.kept >= 0:
        try:
            fcntl.fcntl(program.kept, fcntl.F_DUPFD, ASIDE)
        except OSError:  # the limit on descriptors is low
            fcntl.fcntl(program.kept, fcntl.F_DUPFD, above)


def parents() -> dict[int, int]:
    """The parent of every process that can be seen (field 4 of /proc/<pid>/stat, proc(5))."""
    found: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with (
                contextlib.suppress(OSError, IndexError),
                open(f"/proc/{entry}/stat", "rb") as file,
            ):
                found[int(entry)] = int(file.read().rpartition(b")")[2].split()[1])
    return found


def children(pid: int) -> list[int]:
    """Those whose parent a process is."""
    return [child for child, parent in parents().items() if parent == pid]


def descendants(pid: int) -> list[int]:
    """Everyone below a process, parents first."""
    below: dict[int, list[int]] = {}
    for child, parent in parents().items():
        below.setdefault(parent, []).append(child)
    found = below.get(pid, [])[:]
    for one in found:  # it grows meanwhile
        found += below.get(one, [])
    return found


def signal_children(number: int) -> None:
    """Signal our own children, each with its process group where that is not ours.

    Only they are safe to signal by pid: whoever we have not reaped keeps its number. Their own
    children become ours once they are gone, where we are the subreaper.
    """
    for pid in children(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            group = os.getpgid(pid)
            if group == os.getpgrp():
                os.kill(pid, number)
            else:
                os.killpg(group, number)
                os.kill(pid, number)  # it may have moved between the two


def reap() -> tuple[list[tuple[int, int]], bool]:
    """Pids of children that ended, each with how (as `Death` has it); whether any are left."""
    dead: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return dead, False
        if pid == 0:
            return dead, True
        dead.append((pid, os.waitstatus_to_exitcode(status)))


def end_like(code: int) -> None:
    """End this process as another ended: by the same signal, or else return to exit as it did."""
    if code >= 0:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):  # what cannot be handled is not to be reset
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.kill(os.getpid(), -code)
