"""systemd units for a cluster, as text: what `clusterd systemd` prints. Pure but for its names.

A hardened unit that says why: whoever reads it should learn what may be taken out.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from clusterd.config.address import Fd, Tcp, Unix, parse_bind
from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError
from clusterd.kernel import own_files

NEWEST = 257  # what units are written for where no systemd can be asked
RELOADS = 253  # systemd.service(5): the first that knows Type=notify-reload
STEPS = 254  # the first that knows RestartSteps=, RestartMaxDelaySec=, FileDescriptorStorePreserve=
SPARE = 10  # seconds beyond the graceful timeout and the overtime after it
STORED = 512  # descriptors: a socket a worker with --balance reuseport, and one an address else
HOMES = ("/home/", "/root/", "/run/user/")
TEMPORARY = ("/tmp/", "/var/tmp/")
CONTROL = re.compile(r"[\0-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a unit is made from, beside the settings."""

    name: str  # of the unit, without .service
    command: tuple[str, ...]  # what starts clusterd, with its arguments
    directory: str
    made_by: str  # the command line that printed it
    account: str = ""  # USER[:GROUP], or "" for a user of systemd's making
    of_user: bool = False  # for a user's own manager
    activated: bool = False  # a socket unit listens
    version: int = NEWEST  # of the systemd that is to read it
    dumps: bool = False  # limit_core of a group asks for core dumps
    reload: tuple[str, ...] = ()  # the command that reloads the cluster, and waits until it is done


def quoted(words: Iterable[str]) -> str:
    """A command line as systemd.service(5) reads it, where % and $ mean something."""
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _quoted(word: str) -> str:
    """A word as systemd.syntax(7) reads it. Control characters could end the line."""
    plain = word.replace("%", "%%")
    if word and plain.isprintable() and not set(word) & set(" \"'\\;"):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{CONTROL.sub(lambda found: f"{chr(92)}x{ord(found[0]):02x}", escaped)}"'


def stated(key: str, value: str) -> str:
    """Return a line for a key whose value is not quoted. Raises ConfigError.

    systemd ends a line at a carriage return, too (seen with 252, even in a comment), and goes on
    with the next one after a backslash: what follows would be another setting.
    """
    if CONTROL.search(value) or value.endswith("\\") or value != value.strip():
        raise ConfigError(
            f"systemd: {value!r} cannot stand in a unit, as {key}=",
            "allowed: no control characters, no blanks around it, no backslash at its end",
        )
    return f"{key}={value.replace('%', '%%')}"


def service(plan: Plan, config: Config) -> str:
    """The text of the service unit."""
    parts = [
        _head(plan),
        _unit(plan, config),
        "[Service]\n" + _start(plan, config),
        _times(config),
        _failure(plan),
        _places(plan),
        _rights(plan),
    ]
    if not plan.of_user:
        parts.append(_walls(plan, config))
    parts += [_calls(), _install(plan)]
    return "\n".join(parts)


def _head(plan: Plan) -> str:
    where = "~/.config/systemd/user" if plan.of_user else "/etc/systemd/system"
    ctl = "systemctl --user" if plan.of_user else "systemctl"
    first = f"{plan.name}.socket" if plan.activated else plan.name
    runtime = f"$XDG_RUNTIME_DIR/{plan.name}" if plan.of_user else f"/run/{plan.name}"
    return f"""\
# {where}/{plan.name}.service, made by: {plan.made_by}
# For systemd {plan.version}{" and newer" if plan.version >= STEPS else ""}.
#
#   {ctl} daemon-reload && {ctl} enable --now {first}
#   {ctl} reload {plan.name}       new code, losing no request; the old serves on if it is broken
#   {ctl} status {plan.name}       how many workers are ready, and what became of the last reload
#   clusterd status --runtime-dir {runtime}
"""


def _unit(plan: Plan, config: Config) -> str:
    what = config.app.app or "groups of processes"
    lines = ["[Unit]", stated("Description", f"{what}, run by clusterd")]
    if not plan.of_user:
        lines += ["Wants=network-online.target", "After=network-online.target"]
    if plan.activated:
        lines += [f"Requires={plan.name}.socket", f"After={plan.name}.socket"]
    steps = ": RestartSteps= waits longer each time" if plan.version >= STEPS else ""
    lines += [f"# Never give up{steps}.", "StartLimitIntervalSec=0"]
    return "\n".join([*lines, ""])


def _start(plan: Plan, config: Config) -> str:
    kind, reload = "notify-reload", ""
    if plan.version < RELOADS:
        kind, reload = "notify", f"ExecReload={quoted(plan.reload)}\n"
    return f"""\
# Ready when all workers are; 'systemctl reload' returns when the new code serves, or was refused.
Type={kind}
NotifyAccess=main
ExecStart={quoted(plan.command)}
{reload}\
{stated("WorkingDirectory", plan.directory)}

# TERM goes to the master alone, which has its workers finish; whoever is left is killed at the end.
KillMode=mixed
"""


def _times(config: Config) -> str:
    fleet = config.fleet
    return f"""\
# clusterd asks for more time (EXTEND_TIMEOUT_USEC) where a start or a drain takes longer.
TimeoutStartSec={ceil(fleet.startup_timeout) + SPARE}
# graceful_timeout is {fleet.graceful_timeout:g} s; workers that are stuck are killed 3 s later.
TimeoutStopSec={ceil(fleet.graceful_timeout) + 3 + SPARE}
# The supervising loop itself tells that it turns. If it does not, it is asked for its stack with
# SIGABRT, killed, and started anew; the sockets are kept meanwhile.
WatchdogSec=30
TimeoutAbortSec=5
"""


def _failure(plan: Plan) -> str:
    if plan.version >= STEPS:
        delay = "RestartSec=100ms\nRestartSteps=8\nRestartMaxDelaySec=30"
        preserve = "FileDescriptorStorePreserve=restart\n"
    else:
        delay, preserve = "RestartSec=1s", ""
    return f"""\
# 4 is a wrong setting, which no restart puts right. All else may heal: 3 is an application that
# never became ready (its database may come up later), 5 an address that is taken.
Restart=on-failure
RestartPreventExitStatus=4
{delay}
# Listening sockets are kept for the next start, so clients wait in the queue and are not refused.
FileDescriptorStoreMax={STORED}
{preserve}\
# A worker that the kernel kills for its memory is replaced: that is no reason to stop the others.
OOMPolicy=continue
"""


def _places(plan: Plan) -> str:
    lines = [
        "# The control socket is in here ($RUNTIME_DIRECTORY).",
        f"RuntimeDirectory={plan.name}",
        "RuntimeDirectoryMode=0755",
        "RuntimeDirectoryPreserve=restart",
    ]
    if not plan.of_user:
        lines += ["# The application may write to $STATE_DIRECTORY and $CACHE_DIRECTORY."]
        lines += [f"StateDirectory={plan.name}", f"CacheDirectory={plan.name}"]
    lines += ["UMask=0027", "# Each connection takes a descriptor.", "LimitNOFILE=65536"]
    lines += ["# No core dumps: what clients send, and TLS keys, would be in them."]
    if plan.dumps:
        lines += ["# But for applications and programs whose limit_core asks for some."]
    lines += [f"LimitCORE={'0:infinity' if plan.dumps else '0'}"]
    return "\n".join([*lines, ""])


def _rights(plan: Plan) -> str:
    lines = ["# Nobody in here gains rights that it was not started with."]
    if not plan.of_user:
        lines = _account(plan) + lines
        lines += ["CapabilityBoundingSet=", "AmbientCapabilities=", "PrivateUsers=yes"]
    lines += ["NoNewPrivileges=yes", "RestrictSUIDSGID=yes"]
    return "\n".join([*lines, ""])


def low_port(config: Config) -> int:
    """Return a port to bind that takes a capability, or 0.

    A process that binds none of them has no need of that capability: the application would have
    it, too, and without PrivateUsers= it would be one for all of the system.
    """
    ports = (bind.port for bind in map(parse_bind, config.listen.bind) if isinstance(bind, Tcp))
    return next((port for port in ports if 0 < port < 1024), 0)


def _account(plan: Plan) -> list[str]:
    if not plan.account:
        return [
            "# A user made for it, gone when it stops; or name one: User=",
            "DynamicUser=yes",
        ]
    user, _, group = plan.account.partition(":")
    return [stated("User", user), *([stated("Group", group)] if group else [])]


def _walls(plan: Plan, config: Config) -> str:
    """What it can see of the system. Programs in a home or temporary directory stay visible."""
    seen = [plan.command[0] + "/", plan.directory + "/", config.app.app_dir + "/"]
    seen += [
        f"{bind.path}/" for bind in map(parse_bind, config.listen.bind) if isinstance(bind, Unix)
    ]
    at_home = any(path.startswith(HOMES) for path in seen)
    temporary = any(path.startswith(TEMPORARY) for path in seen)
    lines = [
        "# All of the system is read-only, save what is named above and below.",
        "ProtectSystem=strict",
        f"ProtectHome={'read-only' if at_home else 'yes'}",
        "# It is served from a temporary directory." if temporary else "",
        f"PrivateTmp={'no' if temporary else 'yes'}",
        *_written(plan, config),
        *(f"{wall}=yes" for wall in WALLS),
        "ProtectProc=invisible",
        "KeyringMode=private",
        "RemoveIPC=yes",
    ]
    return "\n".join([*filter(None, lines), ""])


WALLS = (
    "PrivateDevices",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
)


def _written(plan: Plan, config: Config) -> list[str]:
    """Directories that clusterd writes to by its settings."""
    files = [bind.path for bind in map(parse_bind, config.listen.bind) if isinstance(bind, Unix)]
    files = [] if plan.activated else files
    named = [path for path in (config.log.log_file, config.place.pid_file) if path]
    files += [path for path in named if own_files.descriptor_of(path) is None]
    own = tuple(f"/run/{plan.name}/ /var/lib/{plan.name}/ /var/cache/{plan.name}/".split())
    found = {path.rpartition("/")[0] or "/" for path in files if not path.startswith(own)}
    return [f"ReadWritePaths={_quoted(path)}" for path in sorted(found)]


def _calls() -> str:
    return """\
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
# More walls, which some applications do not live with: JIT compilers, and readers of /proc.
#MemoryDenyWriteExecute=yes
#ProcSubset=pid
"""


def _install(plan: Plan) -> str:
    target = "default.target" if plan.of_user else "multi-user.target"
    also = f"Also={plan.name}.socket\n" if plan.activated else ""
    return f"[Install]\nWantedBy={target}\n{also}"


def sockets(plan: Plan, config: Config, resolved: Mapping[str, list[str]]) -> str:
    """The text of the socket unit; `resolved` has each bind in numbers. Raises ConfigError."""
    binds = [parse_bind(text) for text in config.listen.bind]
    if any(isinstance(bind, Fd) or (isinstance(bind, Tcp) and not bind.port) for bind in binds):
        raise ConfigError(
            "a socket unit needs addresses, and neither descriptors nor port 0",
            "name them with --bind, e.g. -b 0.0.0.0:8000",
        )
    rights = {(bind.mode, bind.owner, bind.group) for bind in binds if isinstance(bind, Unix)}
    if len(rights) > 1:
        raise ConfigError("a socket unit gives all its socket files the same mode, owner and group")
    where = "~/.config/systemd/user" if plan.of_user else "/etc/systemd/system"
    lines = [
        f"# {where}/{plan.name}.socket, made by: {plan.made_by}",
        "#",
        "# systemd listens, from the boot on and across restarts; the first connection",
        "# starts the service, which takes over the sockets whose addresses it was told to bind.",
        "",
        "[Unit]",
        f"Description=Sockets of {plan.name}",
        "",
        "[Socket]",
        *(stated("ListenStream", one) for text in config.listen.bind for one in resolved[text]),
        f"FileDescriptorName={plan.name}",
        f"Backlog={config.listen.backlog}",
    ]
    if any(isinstance(bind, Tcp) for bind in binds):
        lines += ["KeepAlive=yes", "KeepAliveTimeSec=60", "KeepAliveIntervalSec=10"]
        lines += ["KeepAliveProbes=6"]
    for mode, owner, group in rights:
        lines += [f"SocketMode={mode:04o}", "RemoveOnStop=yes"]
        lines += [stated("SocketUser", owner)] if owner else []
        lines += [stated("SocketGroup", group)] if group else []
    return "\n".join([*lines, "", "[Install]", "WantedBy=sockets.target", ""])


def shown(words: Iterable[str]) -> str:
    """A command line for a comment: one line, whatever is in it."""
    return CONTROL.sub(" ", shlex.join(words))
