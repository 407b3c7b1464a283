"""From a file to a client: within the kernel where the connection allows it, else in pieces.

uvloop has no `sendfile`, so a copy of the connection's descriptor is written to, past the
transport, whose buffer is empty meanwhile: nothing else is sent on the connection before the file
has been.
"""

import asyncio
import errno
import os
from typing import TYPE_CHECKING

from clusterd.app.peer import ClientGone, ContractError

if TYPE_CHECKING:
    from clusterd.worker.link import Link

PIECE = 512 * 1024  # bytes that go before others get a turn of the loop
READ = 256 * 1024  # bytes of a file that are read at a time, off the loop
NOT_THIS_FILE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}  # the kernel cannot copy from it


async def send_file(link: "Link", file: int, offset: int, count: int) -> None:
    """Send so many bytes of an open file. Raises ClientGone, or ContractError: the file is shorter.

    What the kernel does not hold in memory it reads meanwhile, as it does for nginx.
    """
    if link.is_encrypted:
        await _in_pieces(link, file, offset, count)
        return
    await link.flush()
    try:
        out = os.dup(link.fileno())
    except OSError:
        raise ClientGone("the client has left") from None
    try:
        while count:
            try:
                sent = os.sendfile(out, file, offset, min(count, PIECE))
            except BlockingIOError:
                await link.writable(out)
                _check(link)
                continue
            except OSError as error:
                if error.errno not in NOT_THIS_FILE:
                    link.abort()
                    raise ClientGone("the client has left") from None
                await _in_pieces(link, file, offset, count)
                return
            if not sent:
                raise _ended_early()
            offset += sent
            count -= sent
            await asyncio.sleep(0)
            _check(link)
    finally:
        os.close(out)


async def _in_pieces(link: "Link", file: int, offset: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    while count:
        piece = await loop.run_in_executor(None, os.pread, file, min(count, READ), offset)
        _check(link)
        if not piece:
            raise _ended_early()
        link.write(piece)
        offset += len(piece)
        count -= len(piece)
        await link.drain()
        _check(link)


def _check(link: "Link") -> None:
    if link.is_closing:
        raise ClientGone("the client has left")


def _ended_early() -> ContractError:
    return ContractError("the file ended before the part of it that was to be sent")
