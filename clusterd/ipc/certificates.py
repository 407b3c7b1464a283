"""Certificates on their way from the master, who reads the files, to those who load them.

In a memfd: they may be larger than a packet, and keys belong neither on a disk nor in an argument.
"""

import dataclasses
import fcntl
import json
import os
from dataclasses import dataclass
from typing import Self

from clusterd.core.errors import Bug

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
BYTES = "latin-1"  # carries any byte through JSON, so that a file is passed on as it is


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was read. `path` is for those who are told what is wrong with it."""

    path: str
    content: str  # each character is a byte

    @property
    def data(self) -> bytes:
        return self.content.encode(BYTES)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything that was read: certificates and their keys, pair by pair, and what they need."""

    pairs: tuple[tuple[File, File], ...]  # (certificate with its chain, key)
    password: str = ""
    ca: File | None = None  # that clients' certificates are checked against

    def seal(self) -> "Sealed":
        """The bundle in a memfd, which nobody can change any more."""
        fd = os.memfd_create("clusterd-certificates", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with open(fd, "wb", closefd=False) as file:
            file.write(json.dumps(dataclasses.asdict(self)).encode())
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        return Sealed(fd)

    @classmethod
    def unseal(cls, fd: int) -> Self:
        """The bundle in a memfd. Each reader has the whole, since nobody moves its offset."""
        body = os.pread(fd, os.fstat(fd).st_size, 0)
        try:
            wire = json.loads(body)
            ca = wire["ca"]
            return cls(
                tuple((File(**certificate), File(**key)) for certificate, key in wire["pairs"]),
                wire["password"],
                None if ca is None else File(**ca),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Bug(f"what came is no bundle of certificates: {error!r}") from error


class Sealed:
    """A memfd with a bundle in it, closed with its last reference."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)
