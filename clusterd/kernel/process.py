"""What a process can do to itself, and how to know another for certain.

prctl(2) has no wrapper in the standard library, hence ctypes.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator

PID_LIMIT = 1 << 22  # the kernel's pids are below that (PID_MAX_LIMIT)
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
# capset(2): twice three words, which are effective, permitted and inheritable capabilities.
_CAPABILITY_VERSION_3 = 0x20080522
_EFFECTIVE, _PERMITTED = 0, 1


def open_standard_streams() -> None:
    """Put /dev/null where a standard descriptor is closed.

    Else the next socket would be number 0, 1 or 2, and somebody's print would go into it.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def become_subreaper() -> None:
    """Orphans among our descendants become our children (PR_SET_CHILD_SUBREAPER, Linux 3.4)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(number: int) -> None:
    """Have `number` sent to us when our parent goes (PR_SET_PDEATHSIG); 0 takes it back."""
    _prctl(_PR_SET_PDEATHSIG, number)


def hang_up(pid: int) -> None:
    """Ask a master to reload, by SIGHUP; nothing where it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGHUP)


def set_dumpable(is_dumpable: bool = True) -> None:
    """Allow or forbid core dumps, and with them that other processes of our user look into our
    memory (PR_SET_DUMPABLE). While it is forbidden, the files in /proc/<pid> belong to root."""
    _prctl(_PR_SET_DUMPABLE, int(is_dumpable))


@contextlib.contextmanager
def dumpable() -> Iterator[None]:
    """Own what is in /proc/self for a moment, in a process that is not dumpable."""
    set_dumpable()
    try:
        yield
    finally:
        set_dumpable(False)


def set_no_new_privs() -> None:
    """We and what we start gain nothing by set-user-ID files (PR_SET_NO_NEW_PRIVS, Linux 3.5)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Empty this thread's effective, permitted, inheritable and ambient capabilities.

    A change from root to another user leaves the inheritable ones, with which some container
    managers (systemd-nspawn, Docker before 20.10.14: CVE-2022-24769) start processes. A process
    that never was root may have ambient ones (AmbientCapabilities= of systemd).
    The kernel takes ambient capabilities away with the permitted ones (capabilities(7)).
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    if _LIBC.capget(header, data) != 0 or not any(data):
        return
    if _LIBC.capset(header, (ctypes.c_uint32 * 6)()) == 0:
        return
    code = ctypes.get_errno()
    # A system call filter forbids capset(2). Inheritable capabilities alone give no rights: a
    # program that gains by them needs them in its file, too, and no no_new_privs.
    if any((data[_EFFECTIVE], data[_EFFECTIVE + 3], data[_PERMITTED], data[_PERMITTED + 3])):
        raise OSError(code, os.strerror(code))


def drop_bounding_capabilities() -> None:
    """Have no program that we start gain a capability, as far as we may say so (CAP_SETPCAP)."""
    capability = 0
    while _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:  # the kernel has 41, or more
        capability += 1


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid, its identity.

    Field 22 of /proc/<pid>/stat (proc(5)); 0 when there is no such process. The command's name
    may hold spaces and brackets, hence the cut at the last one.
    """
    try:
        # Unbuffered, since each new worker asks: every object more is a page more that it copies.
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def doing(pid: int) -> str:
    """What a process does, in a letter (field 3 of its stat, proc(5)); '' for none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return ""


def exit_status(pid: int) -> int:
    """Return the wait status of a zombie (field 52 of its stat, proc(5)).

    It is 0 where we may not trace it.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[49])
    except (OSError, IndexError):
        return 0


def tracer_of(pid: int) -> int:
    """Return the process that traces another one (TracerPid in its status, proc(5)); 0 for none.

    TracerPid is the thread that traces, and Tgid the process that a thread belongs to.
    """
    thread = _status(pid, b"TracerPid:")
    return _status(thread, b"Tgid:") if thread else 0


def _status(pid: int, key: bytes) -> int:
    """Return a number from the status of a process or thread (proc(5)); 0 once it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = file.read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key))
    except (OSError, StopIteration):
        return 0


def parent_of(pid: int) -> int:
    """The parent of a process (field 4 of its stat, proc(5)); 0 for none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def boot_id() -> str:
    """Return what the kernel drew at random when it booted: 32 hexadecimal digits (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip().replace("-", "")


def pid_namespace() -> int:
    """Return the number of our pid namespace (pid_namespaces(7))."""
    return os.stat("/proc/self/ns/pid").st_ino


def is_alive(pid: int, ticks: int) -> bool:
    """Is this very process still there (a pid may have been given to another)?"""
    return pid > 0 and ticks > 0 and start_ticks(pid) == ticks


def is_running(pid: int, ticks: int) -> bool:
    """Return whether this very process runs. Zombies, which pid 1 may not reap, do not count."""
    return is_alive(pid, ticks) and doing(pid) not in ("Z", "X", "")


def open_pidfd(pid: int, ticks: int) -> int | None:
    """A descriptor for this very process, or None when it is gone (pidfd_open(2)).

    The identity is checked after opening: from then on the descriptor can mean nobody else.
    """
    if not 0 < pid < PID_LIMIT:
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    if is_alive(pid, ticks):
        return fd
    os.close(fd)
    return None


def kill_pidfd(fd: int) -> None:
    """SIGKILL the process behind a pidfd; nothing where it is gone or no longer ours."""
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def signal_group(leader: int, number: int, send: Callable[[int, int], None] = os.killpg) -> None:
    """Signal a process group; nothing where it is gone, another user's, our own or no group.

    The leader may stand where others may have written it. To the kernel, 0 would be our own group
    and 1 all processes that we may signal (kill(2)).
    """
    if not 1 < leader < PID_LIMIT or leader == os.getpgrp():
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(leader, number)
