"""May a user other than root change what root relies on? The judgement; `kernel.paths` looks.

Root reads settings and runs code by their paths. A user that may write to such a file, to a
directory on the way to it, or to the directory of a link on the way, decides what root does.
"""

import enum
import shlex
import stat
from collections.abc import Iterable
from dataclasses import dataclass

ROOT = 0
MOST_COMMANDS = 6  # commands that a remedy names


class Writer(enum.StrEnum):
    """Users that may write and must not."""

    OWNER = "its owner"
    GROUP = "its group, or an access control list,"
    EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class Trust:
    """The owners whose files root may rely on, and the groups that workers are in."""

    owners: frozenset[int]  # uids: root, and the user who started us by sudo
    workers: frozenset[int] = frozenset()  # gids


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory, file or link that the lookup of a path passes, as lstat(2) sees it."""

    path: str
    uid: int
    gid: int
    mode: int
    is_passed: bool = False  # the lookup goes on to a name in it, which exists
    members: frozenset[int] = frozenset()  # uids of its group, where that may write
    has_acl: bool = False  # where its group may write: more users or groups may be named


@dataclass(frozen=True, slots=True)
class Fault:
    """An entry that others may write to."""

    entry: Entry
    writer: Writer
    owner: str = ""  # name of the user
    group: str = ""
    needed: str = ""  # the path whose lookup passes the entry

    def __str__(self) -> str:
        mode = stat.S_IMODE(self.entry.mode)
        about = f"owner {self.owner}, group {self.group}, mode {mode:o}"
        way = f", on the way to {self.needed}" if self.needed not in ("", self.entry.path) else ""
        return f"{self.writer} may write to {self.entry.path} ({about}){way}"

    @property
    def command(self) -> str:
        """Return what mends it. An access control list may write as the group's bit says."""
        if self.writer is Writer.OWNER:
            words = ["chown", *(["-h"] if stat.S_ISLNK(self.entry.mode) else []), "root"]
        else:
            words = ["chmod", "g-w" if self.writer is Writer.GROUP else "o-w"]
        return shlex.join([*words, self.entry.path])


def writer(entry: Entry, trust: Trust) -> Writer | None:
    """Return which users may write to an entry that must not, or None.

    In a sticky directory only its owner and a file's owner may rename or remove a file, so one
    that is passed on the way to an entry that is judged itself may be writable. The mode of a link
    says nothing. With an access control list the group's bits are the most that it allows (acl(5)).
    """
    if entry.uid not in trust.owners:
        return Writer.OWNER
    is_sticky = stat.S_ISDIR(entry.mode) and entry.mode & stat.S_ISVTX and entry.is_passed
    if stat.S_ISLNK(entry.mode) or is_sticky:
        return None
    if entry.mode & stat.S_IWOTH:
        return Writer.EVERYBODY
    if entry.mode & stat.S_IWGRP:
        # Debian's staff, say, has no members. Root's group may hold system accounts, no persons.
        strangers = entry.gid != ROOT and entry.members - trust.owners
        if entry.has_acl or entry.gid in trust.workers or strangers:
            return Writer.GROUP
    return None


def remedy(faults: Iterable[Fault], tree: str = "") -> str:
    """Return the commands that mend what was found, each once.

    `tree` is a directory whose files belong together, as those of a virtual environment do. Where
    there are many commands, one that takes in all of it is named for each kind.
    """
    found = list(faults)
    commands = list(dict.fromkeys(fault.command for fault in found))
    if tree and len(commands) > MOST_COMMANDS:
        whole = {Writer.OWNER: ["chown", "-R", "root"], Writer.GROUP: ["chmod", "-R", "g-w"],
                 Writer.EVERYBODY: ["chmod", "-R", "o-w"]}  # fmt: skip
        inside = f"{tree}/"
        commands = list(
            dict.fromkeys(
                shlex.join([*whole[fault.writer], tree])
                if f"{fault.entry.path}/".startswith(inside)
                else fault.command
                for fault in found
            )
        )
    more = len(commands) - MOST_COMMANDS
    return "; ".join(commands[:MOST_COMMANDS]) + (f"; and {more} more like these" * (more > 0))
