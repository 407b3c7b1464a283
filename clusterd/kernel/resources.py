"""Read what this process has: threads, descriptors, sockets, file locks and child processes.

Only facts, from /proc and the sockets themselves. Nothing is opened a second time: closing such a
second descriptor would drop this process's locks on the file (fcntl(2), "Record locks").
"""

import contextlib
import io
import os
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clusterd.kernel.peers import peer_of
from clusterd.kernel.process import dumpable

HEAD = 32  # bytes of a regular file that say which library wrote it
_ENDING = 0.1  # seconds that a thread which was joined may take to leave /proc
_STACK = 64 * 1024  # bytes of a thread's stack to read; one that waits uses some 5 KiB
_OF_C = ("libc.", "libc-", "libpthread", "ld-", "libstdc++")
_LOOK_AGAIN = 0.002  # seconds


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread of this process. `name` is Python's, or '' for a thread made in native code."""

    number: int  # the kernel's thread id
    name: str
    comm: str  # the kernel's name, at most 15 bytes; '' where it is only inherited
    library: str = ""  # whose code a thread without a Python name began in: `libgomp`


@dataclass(frozen=True, slots=True)
class Socket:
    """One end of a socket. Names are `host:port`, a path, or '' where the socket has none."""

    family: int
    kind: int  # SOCK_STREAM, …
    listening: bool = False
    name: str = ""
    peer: str | None = None  # None: not connected; '': connected to a socket without a name
    peer_pid: int = 0  # of the process that made the other end of a Unix socket


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open descriptor, and what /proc says it refers to."""

    number: int
    target: str  # a path, or `socket:[1234]`, `anon_inode:[eventpoll]`
    socket: Socket | None = None
    head: bytes = b""  # of a regular file that can be read
    empty: bool = False  # a regular file without content
    locked: bool = False  # this process holds a lock on it (fcntl, flock, OFD)
    reads: bool = False  # a regular file that is read from the place that its descriptor is at


@dataclass(frozen=True, slots=True)
class Child:
    """A child process that runs. `name` is its command line, or what multiprocessing calls it."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything that this process has at one moment."""

    threads: tuple[Thread, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    children: tuple[Child, ...] = ()

    def since(self, earlier: "Resources") -> "Resources":
        """Return only what was not there earlier. A descriptor is known by number and target."""
        threads = {one.number for one in earlier.threads}
        descriptors = {(one.number, one.target) for one in earlier.descriptors}
        children = {one.pid for one in earlier.children}
        return Resources(
            tuple(one for one in self.threads if one.number not in threads),
            tuple(o for o in self.descriptors if (o.number, o.target) not in descriptors),
            tuple(one for one in self.children if one.pid not in children),
        )


def read() -> Resources:
    """Return what this process has now; the calling thread is not counted."""
    return Resources(_with_libraries(threads()), descriptors(), children())


def threads() -> tuple[Thread, ...]:
    """Return all threads but the main one and the caller's, by number."""
    known = {one.native_id: one.name for one in threading.enumerate()}
    ours = {os.getpid(), threading.get_native_id()}
    own = _comm("self")
    found = []
    for number in sorted(int(name) for name in os.listdir("/proc/self/task")):
        if number in ours:
            continue
        with contextlib.suppress(OSError):  # it has just ended
            comm = _comm(f"self/task/{number}")
            found.append(Thread(number, known.get(number, ""), "" if comm == own else comm))
    return tuple(found)


def _with_libraries(found: tuple[Thread, ...]) -> tuple[Thread, ...]:
    """Add to each thread that Python did not name the library that it belongs to."""
    if all(one.name for one in found):
        return found
    mappings = _mappings()
    return tuple(
        one if one.name else replace(one, library=_library(one.number, mappings)) for one in found
    )


def _mappings() -> list[tuple[int, int, str, bool]]:
    """Return what is mapped where: first address, the one after the last, file, whether code."""
    found = []
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        addresses, rights, _offset, _device, _inode, path = (*line.split(None, 5), "")[:6]
        first, _, end = addresses.partition("-")
        found.append((int(first, 16), int(end, 16), path, "x" in rights))
    return found


def _library(number: int, mappings: list[tuple[int, int, str, bool]]) -> str:
    """Return the library whose function a thread began with, or '' where that cannot be told.

    It is the outermost return address on its stack that is not the C library's. The kernel tells
    the stack pointer of a thread that waits in a system call (/proc/PID/syscall, proc(5)).
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        with _opened(f"/proc/self/task/{number}/syscall") as file:
            pointer = int(file.read().split()[-2], 16)
        end = next(end for first, end, *_ in mappings if first <= pointer < end)
        with _opened("/proc/self/mem") as memory:
            memory.seek(pointer)
            stack = memory.read(min(end - pointer, _STACK))
        for (address,) in reversed(list(struct.iter_unpack("N", stack[: len(stack) // 8 * 8]))):
            path = next((path for a, b, path, code in mappings if code and a <= address < b), "")
            name = os.path.basename(path)
            if path.startswith("/") and not name.startswith(_OF_C):
                return name.partition(".")[0]
    return ""


def _opened(path: str) -> io.FileIO:
    """Open a file of /proc/self. Of a process that is not dumpable root owns it (proc(5)).

    Before Linux 5.14 that counts for fdinfo as well.
    """
    try:
        return io.FileIO(path)
    except PermissionError:
        with dumpable():
            return io.FileIO(path)


def await_ending_threads(stays: Callable[[Thread], bool]) -> None:
    """Give threads that are just ending time to do so, but not those of which `stays` is true.

    A thread that was joined may stay in /proc for a moment; Python no longer knows its name then.
    """
    deadline = time.monotonic() + _ENDING
    while not all(one.name or stays(one) for one in threads()) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN)


def _comm(where: str) -> str:
    # Any bytes: names are cut at the 15th, in the middle of a character too.
    return Path(f"/proc/{where}/comm").read_text("utf-8", "replace").strip()


def descriptors() -> tuple[Descriptor, ...]:
    """Return the open descriptors from number 3 on; the standard streams are everybody's.

    A file that is mapped does not count as read from: its descriptor was only needed to map it.
    """
    mapped = {path for _, _, path, _ in _mappings()}
    found = []
    for number in sorted(int(name) for name in os.listdir("/proc/self/fd")):
        if number > 2:
            with contextlib.suppress(OSError):  # the descriptor of this very listing
                one = _descriptor(number)
                found.append(replace(one, reads=False) if one.target in mapped else one)
    return tuple(found)


def _descriptor(number: int) -> Descriptor:
    target = os.readlink(f"/proc/self/fd/{number}")
    about = os.fstat(number)
    if stat.S_ISSOCK(about.st_mode):
        return Descriptor(number, target, _socket(number))
    if not stat.S_ISREG(about.st_mode):
        return Descriptor(number, target)
    with _opened(f"/proc/self/fdinfo/{number}") as file:
        about_it = file.read()
    locked = b"\nlock:" in about_it
    flags = next(int(line[6:], 8) for line in about_it.splitlines() if line.startswith(b"flags:"))
    reads = flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_APPEND
    head = b""
    with contextlib.suppress(OSError):  # it is open for writing only
        head = os.pread(number, HEAD, 0)
    return Descriptor(number, target, None, head, about.st_size == 0, locked, reads)


def _socket(number: int) -> Socket | None:
    try:
        copy = os.dup(number)
    except OSError:
        return None
    try:
        sock = socket.socket(fileno=copy)
    except OSError:  # it does not tell its address, as one of AF_ALG
        os.close(copy)
        return None
    with sock:
        family = int(sock.family)
        listening = _option(sock, socket.SO_ACCEPTCONN) == 1
        name, peer = _address(sock.getsockname), None
        with contextlib.suppress(OSError):
            peer = _shown(sock.getpeername())
        pid = 0
        if family == socket.AF_UNIX and peer is not None:
            with contextlib.suppress(OSError):
                pid, _ = peer_of(sock)
        return Socket(family, int(sock.type), listening, name, peer, pid)


def _option(sock: socket.socket, option: int) -> int:
    with contextlib.suppress(OSError):
        return sock.getsockopt(socket.SOL_SOCKET, option)
    return 0


def _address(ask: object) -> str:
    with contextlib.suppress(OSError):
        assert callable(ask)
        return _shown(ask())
    return ""


def _shown(address: object) -> str:
    """Write an address as people do: `host:port`, `[host]:port`, a path, `@name` if abstract."""
    if isinstance(address, bytes):
        return address.decode("utf-8", "replace").replace("\0", "@", 1)
    if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[0], str):
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address) if address else ""


def has_children() -> bool:
    """Tell whether there is any child process, without reading all of /proc."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def children() -> tuple[Child, ...]:
    """Return the child processes that run; those that ended and were not waited for do not."""
    if not has_children():
        return ()
    # Asked only if the application uses it; it reaps children of its own that have ended.
    multiprocessing: Any = sys.modules.get("multiprocessing.process")
    named = {}
    if multiprocessing is not None:
        named = {one.pid: one.name for one in multiprocessing.active_children()}
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = _state(name)
                if parent == os.getpid() and state not in "ZX":
                    found.append(Child(int(name), named.get(int(name)) or _command(name)))
    return tuple(found)


def _state(pid: str) -> tuple[str, int]:
    """Return a process's state and its parent: fields 3 and 4 of its stat (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[1])


def _command(pid: str) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    return words.decode("utf-8", "replace") or _comm(pid)
