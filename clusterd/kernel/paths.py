"""Look at all that the lookup of a path passes, and find what others than root may write to."""

import contextlib
import grp
import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from clusterd.core.write_access import ROOT, Entry, Fault, Trust, writer
from clusterd.kernel.privileges import identity

ACL = "system.posix_acl_access"
MOST_LINKS = 40  # in a lookup: the kernel's own limit (path_resolution(7))
PASSWD = "/etc/passwd"
MOST_LOOKUPS = 10  # of members that PASSWD does not list: each may ask a directory server
UNKNOWN = -1  # uid of members that were not looked up
PROC = "/proc/"  # only the kernel writes there: /dev/stdin and /dev/fd/63 lead there


def trust(users: Iterable[str], environ: Mapping[str, str]) -> Trust | None:
    """Return whose files root may rely on, or None where no worker has less rights than we have.

    `users`: the setting of each group. Raises ConfigError for a user that does not exist.
    """
    if os.geteuid() != ROOT:
        return None
    workers = [one for one in map(identity, filter(None, users)) if one.uid != ROOT]
    if not workers:
        return None
    owners = {ROOT}
    if (sudo := environ.get("SUDO_UID", "")).isdecimal():
        owners.add(int(sudo))
    groups = {gid for one in workers for gid in (one.gid, *one.groups())}
    return Trust(frozenset(owners - {one.uid for one in workers}), frozenset(groups))


def library_path(environ: Mapping[str, str]) -> list[str]:
    """Return the absolute paths of the directories that LD_LIBRARY_PATH names (ld.so(8)).

    An empty entry, as a colon at the end makes one, is the current directory.
    """
    listed = environ.get("LD_LIBRARY_PATH", "")
    return [os.path.abspath(path) for path in re.split("[:;]", listed)] if listed else []


def added_libraries(environ: Mapping[str, str]) -> list[str]:
    """Return the libraries that LD_AUDIT and LD_PRELOAD add to each program (ld.so(8)), as paths.

    One without the functions of an auditor is loaded, runs its constructors and is unloaded again,
    so that `libraries` does not see it. Names without a slash are searched as any library is.
    """
    named = [*environ.get("LD_AUDIT", "").split(":")]
    named += re.split("[: ]", environ.get("LD_PRELOAD", ""))
    return [os.path.abspath(path) for path in named if "/" in path]


def libraries() -> list[str]:
    """Return the paths of the shared libraries, and of other files, that we have mapped.

    A file that was removed since counts no more: libffi makes such files in /tmp.
    """
    try:
        with open("/proc/self/maps", "rb") as file:  # proc(5)
            mapped = [line.rstrip(b"\n").split(maxsplit=5) for line in file]
    except OSError:
        return []
    found = {os.fsdecode(words[5]) for words in mapped if len(words) == 6}
    return sorted(path for path in found if path[0] == "/" and os.path.isfile(path))


def redirections(path: str, about: os.stat_result, user: str) -> list[Fault]:
    """Return where a worker's user may put another file in the place of one that root reads for it.

    `about` is the file that was opened. Where it is that user's own, nothing is gained by it. Other
    users are trusted: the one that renews certificates, for example. Raises ConfigError.
    """
    wanted = identity(user) if user and os.geteuid() == ROOT else None
    if wanted is None or wanted.uid in (ROOT, about.st_uid):
        return []
    absolute = os.path.abspath(path)
    passed = list(Looker(Trust(frozenset())).entries(absolute))
    others = {entry.uid for entry in passed}.union(*(entry.members for entry in passed))
    groups = frozenset({wanted.gid, *wanted.groups()})
    return Looker(Trust(frozenset(others - {wanted.uid}), groups)).faults([absolute])


@dataclass(slots=True)
class Looker:
    """Finds faults. What it has seen it does not look at again: paths have much in common."""

    trust: Trust
    passwd: str = PASSWD
    _seen: dict[str, os.stat_result | None] = field(default_factory=dict)
    _walked: set[str] = field(default_factory=set)  # directories, all the way to them
    _members: dict[int, frozenset[int]] = field(default_factory=dict)
    _users: dict[str, tuple[int, int]] | None = None  # read once a group is judged

    def faults(self, paths: Iterable[str]) -> list[Fault]:
        """Return what others may write to on the way to these absolute paths, each entry once."""
        entries: dict[Entry, str] = {}
        for path in paths:
            for entry in self._new_entries(path):
                entries.setdefault(entry, path)
        return [
            Fault(entry, found, user_name(entry.uid), _group_name(entry.gid), path)
            for entry, path in entries.items()
            if (found := writer(entry, self.trust)) is not None
        ]

    def _new_entries(self, path: str) -> Iterator[Entry]:
        """Yield what a lookup passes, but of a file in a known directory only the file: a program
        has hundreds of modules in a few directories."""
        found = self._look(path)
        directory = os.path.dirname(path)
        is_file = found is not None and stat.S_ISREG(found.st_mode)
        if found is not None and is_file and directory in self._walked:
            return iter([self._entry(path, found)])
        if is_file:
            self._walked.add(directory)
        return self.entries(path)

    def entries(self, path: str) -> Iterator[Entry]:
        """Yield what the lookup of an absolute path passes, in the order of the kernel's lookup.

        Where a part is missing it ends: the last directory is one that others may add it to.
        """
        directory, rest, links = "/", path.split("/")[::-1], 0
        last, found = "/", self._look("/")
        while rest and found is not None and not f"{directory}/".startswith(PROC):
            name = rest.pop()
            if name in ("", "."):
                continue
            if name == "..":
                directory = os.path.dirname(directory)
                continue
            there = os.path.join(directory, name)
            next_found = self._look(there)
            if next_found is None:
                break
            yield self._entry(last, found, is_passed=True)
            last, found = there, next_found
            if not stat.S_ISLNK(found.st_mode):
                directory = there
                continue
            links += 1
            if links > MOST_LINKS:
                break
            target = os.readlink(there)
            directory = "/" if target.startswith("/") else directory
            rest += target.split("/")[::-1]
        if found is not None:
            yield self._entry(last, found)

    def _look(self, path: str) -> os.stat_result | None:
        if path not in self._seen:
            try:
                self._seen[path] = os.lstat(path)
            except OSError:  # it is missing, or not even root may look
                self._seen[path] = None
        return self._seen[path]

    def _entry(self, path: str, found: os.stat_result, is_passed: bool = False) -> Entry:
        about = (path, found.st_uid, found.st_gid, found.st_mode, is_passed)
        if not found.st_mode & stat.S_IWGRP or stat.S_ISLNK(found.st_mode):
            return Entry(*about)
        return Entry(*about, self._of_group(found.st_gid), _has_acl(path))

    def _of_group(self, gid: int) -> frozenset[int]:
        """Return the uids of a group's members.

        All users of the system are not listed (getpwent(3)): with a directory server there may be
        a hundred thousand, and the master would wait for them. So a user whose primary group it is
        counts where PASSWD says so, and the users of workers where `Trust` has their groups.
        """
        if gid not in self._members:
            if self._users is None:
                self._users = local_users(self.passwd)
            found = {uid for uid, primary in self._users.values() if primary == gid}
            self._members[gid] = frozenset(found | listed_members(gid, self._users))
        return self._members[gid]


def listed_members(gid: int, local: Mapping[str, tuple[int, int]]) -> set[int]:
    """Return the uids of the users that group(5) lists as members; `local` are known already."""
    try:
        names = grp.getgrgid(gid).gr_mem
    except KeyError:
        return set()
    found = {local[name][0] for name in names if name in local}
    others = [name for name in names if name not in local]
    for name in others[:MOST_LOOKUPS]:
        with contextlib.suppress(KeyError):  # a user that is gone
            found.add(pwd.getpwnam(name).pw_uid)
    return found | ({UNKNOWN} if others[MOST_LOOKUPS:] else set())


def local_users(path: str) -> dict[str, tuple[int, int]]:
    """Return uid and primary gid of each user in a file as passwd(5) has it."""
    found: dict[str, tuple[int, int]] = {}
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, uid, gid, *_ = [*line.split(":"), "", "", ""]
            if uid.isdecimal() and gid.isdecimal():  # not so in comments and NIS's + and -
                found.setdefault(name, (int(uid), int(gid)))
    return found


def _has_acl(path: str) -> bool:
    try:
        return ACL in os.listxattr(path)
    except OSError:  # a file system without any
        return False


def user_name(uid: int) -> str:
    """Return a user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_home(path: str, uid: int) -> bool:
    """Return whether a directory is the home of this user, if that is not root."""
    try:
        return uid != ROOT and pwd.getpwuid(uid).pw_dir == path
    except KeyError:
        return False


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
