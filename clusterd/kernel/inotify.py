"""Watch single files for changes: inotify(7), which has no wrapper in the standard library."""

import ctypes
import os
import struct

ATTRIBUTES = 0x004  # IN_ATTRIB: also of its times, and of the number of its names
IGNORED = 0x8000  # IN_IGNORED: the watch is gone, as its file is
_LIBC = ctypes.CDLL(None, use_errno=True)
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_SIZE = 4096  # bytes read at once: some 256 events, for a watch of a file names none


class Inotify:
    """Watches of a process. Raises OSError where the user has too many (max_user_instances)."""

    def __init__(self) -> None:
        self.fd: int = _checked(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, path: str, mask: int) -> None:
        """Report these changes of a file from now on. Raises OSError."""
        _checked(_LIBC.inotify_add_watch(self.fd, os.fsencode(path), mask))

    def read(self) -> int:
        """Return the masks of all events that are waiting, put together; 0 for none."""
        masks = 0
        while True:
            try:
                data = os.read(self.fd, _SIZE)
            except BlockingIOError:
                return masks
            offset = 0
            while offset < len(data):
                _, mask, _, length = _EVENT.unpack_from(data, offset)
                masks |= mask
                offset += _EVENT.size + length

    def close(self) -> None:
        """Stop watching."""
        os.close(self.fd)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
