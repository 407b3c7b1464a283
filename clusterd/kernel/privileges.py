"""Who a process is and what it may take: given up once, before any code of others runs.

The master keeps what it was started with, since it binds, signals and reopens. Every process that
is to run an application or a command goes through `apply` first, and what it forks inherits that.
"""

import contextlib
import grp
import os
import pwd
import resource
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from clusterd.core.errors import ConfigError
from clusterd.kernel.fork import fork_into
from clusterd.kernel.process import (
    drop_bounding_capabilities,
    drop_capabilities,
    set_dumpable,
    set_no_new_privs,
    signal_group,
)

LEFT = -1  # a limit or an umask that stays as it is
NAME_A_USER = (
    "--user www-data (or CLUSTERD_USER, or user in clusterd.toml) has them give up root's rights "
    "once the sockets are bound; --user root says that root is meant"
)


class Limits(Protocol):
    """What is read of the settings here."""

    @property
    def user(self) -> str: ...
    @property
    def umask(self) -> int: ...
    @property
    def nice(self) -> int: ...
    @property
    def pin(self) -> bool: ...
    @property
    def limit_nofile(self) -> int: ...
    @property
    def limit_core(self) -> int: ...
    @property
    def limit_as(self) -> int: ...
    @property
    def no_new_privs(self) -> str: ...
    @property
    def keep_capabilities(self) -> bool: ...
    @property
    def dumpable(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and a group, as the system knows them. `named`: it has an entry in passwd(5)."""

    uid: int
    gid: int
    name: str
    home: str
    named: bool = True
    shell: str = "/bin/sh"

    @property
    def is_ours(self) -> bool:
        """Whether this process is that already, so that there is nothing to give up."""
        return (self.uid, self.gid) == (os.geteuid(), os.getegid())

    def groups(self) -> list[int]:
        """Return the gids of all groups that a process of this user is in."""
        return os.getgrouplist(self.name, self.gid) if self.named else [self.gid]


def identity(text: str) -> Identity:
    """What USER or USER:GROUP means, each a name or a number. Raises ConfigError."""
    user, colon, group = text.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        if not user.isdecimal():
            raise ConfigError(f"user: there is no user {user!r}") from None
        entry = None
    if entry is None:
        if not colon:
            raise ConfigError(
                f"user: {user} has no entry in passwd, and so no group of its own",
                f"Name one: {user}:GROUP, e.g. {user}:{user}.",
            )
        return Identity(int(user), _group(group), user, "/", named=False)
    gid = _group(group) if colon else entry.pw_gid
    shell = entry.pw_shell or "/bin/sh"  # passwd(5)
    return Identity(entry.pw_uid, gid, entry.pw_name, entry.pw_dir, shell=shell)


def _group(text: str, setting: str = "user") -> int:
    if text.isdecimal():
        return int(text)
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ConfigError(f"{setting}: there is no group {text!r}") from None


def owners(owner: str, group: str, setting: str) -> tuple[int, int]:
    """Return the numbers of a file's owner and group, LEFT for ''. Raises ConfigError."""
    uid = LEFT
    if owner:
        try:
            uid = int(owner) if owner.isdecimal() else pwd.getpwnam(owner).pw_uid
        except KeyError:
            raise ConfigError(f"{setting}: there is no user {owner!r}") from None
    return uid, _group(group, setting) if group else LEFT


def users(settings: Iterable[str]) -> set[int]:
    """Return the users that settings of `user` name; none for those that are empty or unknown."""
    found = set()
    for text in filter(None, settings):
        with contextlib.suppress(ConfigError):
            found.add(identity(text).uid)
    return found


def is_root_by_default(user: str) -> bool:
    """Return whether workers would run as root though no setting asks for that."""
    return not user and os.geteuid() == 0


def is_root(user: str) -> bool:
    """Return whether workers run as root by this setting. Raises ConfigError."""
    return os.geteuid() == 0 and (not user or identity(user).uid == 0)


def becomes(user: str) -> Identity | None:
    """Return the user that workers become by this setting, or None where that is ours."""
    wanted = identity(user) if user else None
    return None if wanted is None or wanted.is_ours else wanted


def check(user: str) -> None:
    """Raise ConfigError where workers could not become the user that the settings name.

    What only the kernel knows turns out when the rights are given up.
    """
    if not user:
        return
    wanted = identity(user)
    if os.geteuid() != 0 and not wanted.is_ours:
        raise ConfigError(
            f"user: only the superuser can become {user}",
            "Start clusterd as root, or as that user and without this setting.",
        )


def apply(limits: Limits) -> None:
    """Take limits on and give rights up, in this process, for good. Raises ConfigError.

    In this order: to raise a limit or the priority takes the rights that go with the user. A
    process that has become another user is not dumpable until it executes a program (prctl(2)), so
    that the user cannot look into memory that was root's.
    """
    for name, which, size in (
        ("limit_nofile", resource.RLIMIT_NOFILE, limits.limit_nofile or LEFT),
        ("limit_core", resource.RLIMIT_CORE, limits.limit_core),
        ("limit_as", resource.RLIMIT_AS, limits.limit_as or LEFT),
    ):
        if size != LEFT:
            _try(name, resource.setrlimit, which, (size, size))
    if limits.umask != LEFT:
        os.umask(limits.umask)
    if limits.nice:
        _try("nice", os.nice, limits.nice)
    _give_up_rights(limits)


def _give_up_rights(limits: Limits) -> None:
    wanted = identity(limits.user) if limits.user else None
    was_root = os.geteuid() == 0
    is_root = (wanted.uid if wanted else os.geteuid()) == 0
    gives_up = was_root and not is_root
    has_no_new_privs = _is_on(limits.no_new_privs, gives_up)
    # Without no_new_privs, sudo and ping are to work: they need the capabilities of this set.
    if has_no_new_privs and not is_root:
        drop_bounding_capabilities()
    if wanted:
        _try("user", become, wanted)
    if gives_up or not (is_root or limits.keep_capabilities):
        _try("keep_capabilities", drop_capabilities)
    if has_no_new_privs:
        _try("no_new_privs", set_no_new_privs)


def hide_memory(limits: Limits, gave_up: bool, holds_key: bool) -> None:
    """After `apply`, and an exec if there is one, say whether this process is dumpable.

    `gave_up`: root's rights. `holds_key`: this process and those that it forks hold the private key
    of a certificate. Where no root gave up its rights, our user can read the key's file as well.
    """
    hides = gave_up and holds_key and limits.limit_core <= 0
    is_dumpable = _is_on(limits.dumpable, not hides)
    # The kernel forbids dumps to a process that changes its ids (prctl(2)). /proc/<pid> belongs to
    # root then, so that there is neither a core dump nor a view of our own memory maps.
    if gave_up or not is_dumpable:
        set_dumpable(is_dumpable)


def _is_on(choice: str, auto: bool) -> bool:
    """Return what a setting of `auto`, `on` or `off` comes to."""
    return auto if choice == "auto" else choice == "on"


def become(wanted: Identity) -> None:
    """Be another user, in all three ids, with that user's groups and no others. Raises OSError."""
    if wanted.is_ours:
        return
    if wanted.named:
        os.initgroups(wanted.name, wanted.gid)
    else:
        os.setgroups([wanted.gid])
    os.setresgid(wanted.gid, wanted.gid, wanted.gid)
    os.setresuid(wanted.uid, wanted.uid, wanted.uid)


def kill_group_as(user: str, leader: int) -> int:
    """Kill a process group from a child that is `user`; the child's pid. Raises OSError.

    For a number that this user's processes told: they may name only what is theirs.
    """

    def kill() -> int:
        become(identity(user))
        signal_group(leader, signal.SIGKILL)
        return 0

    return fork_into(kill)


def place(limits: Limits, slot: int) -> None:
    """In a worker, after `apply`: where it is to be pinned, stay on one of the CPUs that we may
    use, the slot's own as far as they go."""
    if not limits.pin:
        return
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[slot % len(cpus)]})


def _try(name: str, act: Callable[..., object], *args: object) -> None:
    try:
        act(*args)
    except (OSError, ValueError) as error:  # setrlimit raises both
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{name}: it cannot be had: {reason}", _REMEDY.get(name, "")) from None


_REMEDY = {
    "limit_nofile": "To raise the hard limit takes CAP_SYS_RESOURCE: ulimit -Hn shows it.",
    "limit_core": "To raise the hard limit takes CAP_SYS_RESOURCE: ulimit -Hc shows it.",
    "limit_as": "To raise the hard limit takes CAP_SYS_RESOURCE: ulimit -Hv shows it.",
    "nice": "To be favoured takes CAP_SYS_NICE.",
    "keep_capabilities": "A system call filter (SystemCallFilter=~@privileged) forbids capset: "
    "start clusterd without capabilities (no AmbientCapabilities=), or allow capset.",
    "user": "That takes CAP_SETUID and CAP_SETGID, which root may lack in a container.",
}
