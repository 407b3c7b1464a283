"""Certificates as the master has them: files that it reads and passes on, and does not understand.

Whether a pair can be used is for a zygote to say, which has OpenSSL; so a renewal takes two steps:
the zygote of the serving generation tries it, then the workers get it.
"""

import contextlib
import os
import shlex
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime

from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError
from clusterd.core.events import Kind
from clusterd.core.write_access import remedy
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import Worker, Zygote
from clusterd.ipc.certificates import BYTES, Bundle, File, Sealed
from clusterd.ipc.messages import Certificates, Certified
from clusterd.kernel.paths import redirections
from clusterd.master.group import Group

ONCE_MORE = "the certificates were renewed once more"
MOST = 1024 * 1024  # bytes of a file: a bundle of all public authorities has 250 kB


@dataclass(slots=True)
class Renewal:
    """Other certificates for a generation, on their way."""

    number: int
    sealed: Sealed
    zygote: int  # the pid of the one that tries them
    left: set[int | None] = field(default_factory=set)  # pids of workers that have the old ones
    certified: Certified | None = None  # what the zygote said


def read(config: Config) -> Sealed | None:
    """Everything that TLS needs, or None where it is off; ConfigError for what cannot be read."""
    settings = config.tls
    if not settings.tls_cert:
        return None
    user = "" if config.trust.insecure_paths else config.limits.user
    certificates = [_file("tls_cert", path, user) for path in settings.tls_cert]
    keys = [_file("tls_key", path, user) for path in settings.tls_key] or certificates
    password, ca = "", None
    if settings.tls_password_file:
        content = _file("tls_password_file", settings.tls_password_file, user).content
        password = content.partition("\n")[0].rstrip("\r")
    if settings.tls_ca:
        ca = _file("tls_ca", settings.tls_ca, user)
    pairs = tuple(zip(certificates, keys, strict=True))
    return Bundle(pairs, password, ca).seal()


def _file(setting: str, path: str, user: str) -> File:
    """Read a file for workers that are `user`. Raises ConfigError."""
    try:
        # Without O_NONBLOCK, a named pipe would have the master wait for whoever writes to it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError(f"{setting}: {path} is no regular file")
            _refuse_redirected(setting, path, os.fstat(fd), user)
            data = file.read(MOST + 1)
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}") from None
    if len(data) > MOST:
        raise ConfigError(f"{setting}: {path} is larger than {MOST} bytes")
    return File(path, data.decode(BYTES))


def _refuse_redirected(setting: str, path: str, about: os.stat_result, user: str) -> None:
    """Raise ConfigError where workers could have root read any file for them, by a link.

    Judged once the file is open: what was on the way to it could be exchanged until then.
    """
    if found := redirections(path, about, user):
        raise ConfigError(
            f"{setting}: workers could put another file of root's in its place: {found[0]}",
            f"{remedy(found)}; or give them the file: {shlex.join(['chown', user, path])}",
        )


def renew(group: Group) -> int:
    """Read the files again and have them tried; the number of this renewal. Raises ConfigError."""
    goal = group.goal
    if goal.mode is Mode.STOPPING:
        raise ConfigError("the cluster is stopping")
    if goal.stable not in group.bundles and goal.candidate not in group.bundles:
        raise ConfigError("TLS is off: there are no certificates", "turn it on with --tls-cert")
    group.renewed += 1
    if not _may_begin(group):
        # A rollout has read the files when it began. They are read again when it has ended, by
        # the generation that serves then; or when there is a zygote again that can try them.
        if group.renewal_waits:
            _refuse(group, goal.stable, group.renewal_waits, ONCE_MORE)
        group.renewal_waits = group.renewed
        return group.renewed
    number = group.renewed
    _begin_all(group, number)
    return number


def _may_begin(group: Group) -> bool:
    """Return whether no rollout is under way, and a zygote is there.

    There is none for a moment when it has died, or has become a worker that imports for itself.
    """
    return group.goal.candidate is None and group.roster.zygote(group.goal.stable) is not None


def _begin_all(group: Group, number: int) -> None:
    """Have the serving generation try what is on disk, and the kept one. Raises ConfigError."""
    goal = group.goal
    try:
        if goal.stable not in group.bundles:
            raise ConfigError("TLS is off: there are no certificates")
        _begin(group, goal.stable, number)
    except ConfigError as error:
        _refuse(group, goal.stable, number, error.message, error.remedy)
        raise
    if goal.kept is not None and goal.kept in group.bundles:
        try:
            # Lest a rollback bring back what has expired. By a number of its own: the end of
            # this renewal is not the reply that a command waits for.
            group.renewed += 1
            _begin(group, goal.kept, group.renewed)
        except ConfigError as error:
            then = f"generation {goal.kept} keeps its certificates"
            group.note(Kind.TROUBLE, reason=error.message, next=then)


def _begin(group: Group, generation: int, number: int) -> None:
    before = group.renewals.pop(generation, None)
    if before is not None:
        _refuse(group, generation, before.number, ONCE_MORE)
    sealed = read(group.configs[generation])
    zygote = group.roster.zygote(generation)
    assert sealed is not None  # this generation has certificates, so its settings name them
    order = Certificates(number)
    if zygote is None or not group.zygote_channels[zygote.pid].send(order, [sealed.fd]):
        raise ConfigError(f"the zygote of generation {generation} takes no orders", "try once more")
    group.renewals[generation] = Renewal(number, sealed, zygote.pid)


def _refuse(group: Group, generation: int, number: int, reason: str, remedy: str = "") -> None:
    group.renewals.pop(generation, None)
    group.note(
        Kind.CERTIFICATES_REFUSED,
        generation=generation,
        renewal=number,
        reason=reason,
        remedy=remedy,
        next="those in use stay",
    )


def certified(group: Group, speaker: Worker | Zygote, message: Certified) -> None:
    """Somebody loaded certificates, or could not."""
    if isinstance(speaker, Zygote):
        for warning in message.warnings:
            then = "clients will not accept it: renew it, then 'clusterd reload --certs'"
            group.note(Kind.TROUBLE, reason=warning, next=then)
    renewal = group.renewals.get(speaker.generation)
    if renewal is None or renewal.number != message.number:
        return
    if isinstance(speaker, Worker):
        if message.fault:
            then = f"worker {speaker.slot} keeps the certificates that it has"
            group.note(Kind.TROUBLE, reason=message.fault, next=then)
        renewal.left.discard(speaker.pid)
    elif message.fault:
        _refuse(group, speaker.generation, message.number, message.fault, message.remedy)
    elif renewal.zygote == speaker.pid:
        renewal.certified = message
        _hand_out(group, speaker.generation, renewal)


def _hand_out(group: Group, generation: int, renewal: Renewal) -> None:
    """The zygote could use them: give them to the workers, and to whoever is started from now."""
    group.bundles[generation] = renewal.sealed
    for worker in group.roster.live():
        if worker.generation != generation:
            continue
        channel = group.handles[worker.row].channel
        if not channel.send(Certificates(renewal.number), [renewal.sealed.fd]):
            reason = f"worker {worker.slot} does not listen"
            group.note(Kind.TROUBLE, reason=reason, next="it keeps the certificates it has")
        elif worker.phase is Phase.READY:
            renewal.left.add(worker.pid)


def settle(group: Group) -> None:
    """Begin the renewal that had to wait; tell of those that are over. Called each turn."""
    if group.renewal_waits and (_may_begin(group) or group.goal.mode is Mode.STOPPING):
        number, group.renewal_waits = group.renewal_waits, 0
        if group.goal.mode is Mode.STOPPING:
            _refuse(group, group.goal.stable, number, "the cluster is stopping")
        else:
            with contextlib.suppress(ConfigError):  # the refusal is in the journal
                _begin_all(group, number)
    for generation, renewal in list(group.renewals.items()):
        if renewal.certified is None:
            zygote = group.roster.zygote(generation)
            if zygote is None or zygote.pid != renewal.zygote:
                _refuse(group, generation, renewal.number, "the zygote ended while it tried them")
            continue
        renewal.left &= {worker.pid for worker in group.roster.live()}
        if not renewal.left:
            del group.renewals[generation]
            until = datetime.fromtimestamp(renewal.certified.expires, UTC)
            group.note(
                Kind.CERTIFICATES_RENEWED,
                generation=generation,
                renewal=renewal.number,
                names=renewal.certified.names,
                expires=until.isoformat(timespec="seconds"),
            )
