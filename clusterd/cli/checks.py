"""The table of what `clusterd check` looks at: each check judges facts. Pure.

A check is a function from the facts to findings. What it needs to know of the machine is gathered
by `cli.facts`, so that each judgement can be asked for any machine.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from clusterd.config import internal
from clusterd.config.settings import Config
from clusterd.core.imports import DOCS, PRICE
from clusterd.core.units import show_bytes, show_seconds
from clusterd.core.urls import without_password
from clusterd.kernel.privileges import NAME_A_USER

OK, WARN, FAIL = "ok", "warn", "fail"
OVERTIME = 3.0  # seconds after the graceful timeout until a worker is killed
SPARE = 64  # descriptors that a worker has beside its connections
PROXY_IDLE = 60.0  # seconds that nginx and most load balancers keep an idle connection
KUBERNETES_GRACE = 30.0  # seconds: terminationGracePeriodSeconds where nobody sets it
LEAST_MEMORY = 48 * 2**20  # bytes that a worker of even a small application takes by itself
MOST = 12  # modules that a finding names; the rest is counted
SOON = 14 * 86400.0  # seconds before a certificate expires in which it is worth a word
LOG_REMEDY = "Make the directory, give the right, or name another file."
CROWD = 2  # workers a CPU from which asynchronous ones only take time from each other


class Finding(NamedTuple):
    """What a check says."""

    check: str
    level: str  # OK, WARN or FAIL
    text: str
    remedy: str = ""
    below: str = ""  # lines to show under it: a traceback


@dataclass(frozen=True)
class Bind:
    """What came of trying an address."""

    address: str
    error: str = ""
    by_us: bool = False  # the running cluster of this name has it
    remedy: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything that is judged."""

    groups: Mapping[str, Config] = field(default_factory=dict)
    settings_error: tuple[str, str] = ("", "")  # what is wrong with them, and the remedy
    source: str = ""  # where they come from
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by group
    programs: Mapping[str, str] = field(default_factory=dict)  # by group: path, or ''
    binds: Mapping[str, tuple[Bind, ...]] = field(default_factory=dict)  # by group
    superuser: bool = False
    user_errors: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # by group
    writable: tuple[tuple[str, str], ...] = ()  # what others may change that root relies on
    somaxconn: int = 4096
    descriptors: int = 1048576  # the soft limit that workers inherit
    cpus: int = 1
    memory_limit: int = 0  # of the cgroup, bytes; 0 for none
    control: str = ""  # path of the control socket; '' for none
    control_error: str = ""
    no_control: str = ""  # why there is none: each directory that was tried
    running: bool = False
    stop_timeout: float = 0.0  # of the systemd unit, seconds; 0: there is none
    unit: str = ""
    kubernetes: bool = False
    log_error: str = ""
    has_h2: bool = True
    remark: str = ""  # on developing without what reloads need
    now: float = 0.0  # wall clock, seconds


Check = Callable[[Facts], Iterator[Finding]]


def judged(facts: Facts) -> list[Finding]:
    """What all checks say, in the order of the table."""
    return [finding for check in CHECKS.values() for finding in check(facts)]


def settings(facts: Facts) -> Iterator[Finding]:
    error, remedy = facts.settings_error
    if error:
        yield Finding("settings", FAIL, error, remedy or "'clusterd config' shows what is read.")
    elif not facts.groups:
        yield Finding(
            "settings", FAIL, "there is nothing to run", "Name an application: module:attribute."
        )
    else:
        count = len(facts.groups)
        groups = f", groups {', '.join(facts.groups)}" if count > 1 else ""
        yield Finding("settings", OK, f"{facts.source}{groups}")


def app(facts: Facts) -> Iterator[Finding]:
    for name, config in _apps(facts):
        told = facts.probes.get(name, {})
        where = _of(facts, name)
        limits, found = told.get("limits"), told.get("app", {})
        if limits:
            yield Finding("user", FAIL, f"{limits['error']}{where}", limits["remedy"])
        elif "error" in found:
            yield Finding(
                "app",
                FAIL,
                f"{found['error']}{where}",
                found.get("remedy", ""),
                found.get("traceback", ""),
            )
        elif found:
            took, limit = found["seconds"], config.fleet.startup_timeout
            text = f"{config.app.app} is {found['interface'].upper()}, imported in {took:.1f}s"
            slow = took > limit / 2
            remedy = "Raise startup_timeout, or see 'python -X importtime'."
            yield Finding(
                "app",
                WARN if slow else OK,
                text + where + (f" of {show_seconds(limit)}" if slow else ""),
                remedy if slow else "",
            )


def jobs(facts: Facts) -> Iterator[Finding]:
    """Judge whether job workers, as their user, can use the store."""
    for name, config in _apps(facts):
        told = facts.probes.get(name, {}).get("jobs")
        if not told:
            continue
        if "error" in told:
            yield Finding("jobs", FAIL, told["error"] + _of(facts, name), told.get("remedy", ""))
        else:
            count = told["jobs"]
            store = without_password(config.jobs.jobs_store)
            text = f"{count} job{'s' * (count != 1)}, stored in {store}"
            yield Finding("jobs", OK, text + _of(facts, name))


def preload(facts: Facts) -> Iterator[Finding]:
    """Report what the import left that must not cross a fork, as a start would."""
    for name, config in _apps(facts):
        left = facts.probes.get(name, {}).get("app", {}).get("left")
        if left is None or config.app.preload == "never":
            continue
        if not left["reason"]:
            yield Finding("preload", OK, f"imported once, then forked{_of(facts, name)}")
        elif config.app.preload == "always":
            text = f"forking is not safe: {left['reason']}{_of(facts, name)}"
            yield Finding("preload", FAIL, text, f"{left['advice']} Or set preload to auto.")
        else:
            text = f"{left['reason']}{_of(facts, name)}; so {PRICE}"
            yield Finding("preload", WARN, text, f"{left['advice']} {DOCS}")


def later(facts: Facts) -> Iterator[Finding]:
    """Report what each worker imports for itself at its first requests, and harmless draws."""
    for name, config in _apps(facts):
        found, where = facts.probes.get(name, {}).get("app", {}), _of(facts, name)
        if config.app.preload != "never":
            for what in found.get("shared", ()):
                yield Finding("preload", OK, f"{what}{where}")
        if modules := found.get("later"):
            named = ", ".join(f"{module} ({line})" for module, line in modules[:MOST])
            more = f" and {len(modules) - MOST} more" if len(modules) > MOST else ""
            yield Finding(
                "preload",
                OK,
                f"imported by each worker at first use: {named}{more}{where}",
                "preload_modules imports them with the application.",
            )


def command(facts: Facts) -> Iterator[Finding]:
    for name, config in facts.groups.items():
        if config.command.command:
            program, path = config.command.command[0], facts.programs.get(name, "")
            if path:
                yield Finding("command", OK, f"{name}: {path}")
            else:
                yield Finding(
                    "command",
                    FAIL,
                    f"{name}: there is no program {program}",
                    "Write its whole path, or see to PATH.",
                )


def user(facts: Facts) -> Iterator[Finding]:
    for name, (error, remedy) in facts.user_errors.items():
        yield Finding("user", FAIL, error + _of(facts, name), remedy)
    unset = [
        name
        for name, config in facts.groups.items()
        if facts.superuser and not config.limits.user and name not in internal.NAMES
    ]
    for name in unset:
        text = f"no user is set, so workers would run as root{_of(facts, name)}"
        yield Finding("user", WARN, text, f"{NAME_A_USER}.")
    root = [n for n, c in facts.groups.items() if c.limits.user.partition(":")[0] in ("root", "0")]
    if root:
        yield Finding(
            "user",
            WARN,
            f"workers of {', '.join(root)} are the superuser",
            "Name a user who may do less.",
        )
    elif not facts.user_errors and not unset and facts.groups:
        yield Finding("user", OK, "workers are not the superuser")


def paths(facts: Facts) -> Iterator[Finding]:
    """Report what a start refuses, since others may change it and root relies on it."""
    allowed = any(config.trust.insecure_paths for config in facts.groups.values())
    for text, remedy in facts.writable:
        yield Finding("paths", WARN if allowed else FAIL, text, remedy)


def addresses(facts: Facts) -> Iterator[Finding]:
    for name, binds in facts.binds.items():
        for bind in binds:
            if bind.by_us:
                yield Finding("bind", OK, f"{bind.address} belongs to the running cluster")
            elif bind.error:
                yield Finding(
                    "bind",
                    FAIL,
                    f"{bind.error}{_of(facts, name)}",
                    bind.remedy or "Stop who has it ('ss -ltnp' tells), or choose another.",
                )
            else:
                yield Finding("bind", OK, f"{bind.address} is free")


def backlog(facts: Facts) -> Iterator[Finding]:
    for name, config in _serving(facts):
        wanted = config.listen.backlog
        if wanted > facts.somaxconn:
            yield Finding(
                "backlog",
                WARN,
                f"{wanted} is cut to net.core.somaxconn = {facts.somaxconn}" + _of(facts, name),
                f"sysctl -w net.core.somaxconn={wanted}, or lower backlog.",
            )
        else:
            yield Finding(
                "backlog",
                OK,
                f"{wanted}, of {facts.somaxconn} that the system allows" + _of(facts, name),
            )


def descriptors(facts: Facts) -> Iterator[Finding]:
    for name, config in _serving(facts):
        most, limit = config.http.max_connections, config.limits.limit_nofile or facts.descriptors
        text = f"{limit} a worker, for {most} connections{_of(facts, name)}"
        if limit < most + SPARE:
            yield Finding(
                "descriptors",
                WARN,
                text,
                f"Set limit_nofile to {2 * most} or more, or lower max_connections.",
            )
        else:
            yield Finding("descriptors", OK, text)


def workers(facts: Facts) -> Iterator[Finding]:
    for name, config in _apps(facts):
        count = max(config.fleet.workers, config.fleet.max_workers)
        text = f"{count} on {facts.cpus} CPUs{_of(facts, name)}"
        kind = facts.probes.get(name, {}).get("app", {}).get("interface", "asgi")
        if kind == "asgi" and count > CROWD * facts.cpus:
            yield Finding(
                "workers",
                WARN,
                text,
                "Asynchronous workers beyond the CPUs only take "
                "time from each other: lower workers, or let it be auto.",
            )
        else:
            yield Finding("workers", OK, text)


def memory(facts: Facts) -> Iterator[Finding]:
    limit = facts.memory_limit
    if not limit:
        return
    counts = {n: max(c.fleet.workers, c.fleet.max_workers) for n, c in facts.groups.items()}
    total = sum(counts.values())
    asked = sum(counts[n] * c.vitals.max_memory for n, c in facts.groups.items())
    text = f"{show_bytes(limit)} in the cgroup, for {total} workers"
    if asked > limit:
        yield Finding(
            "memory",
            WARN,
            f"{text} that may have {show_bytes(asked)} by max_memory",
            "Lower max_memory or workers, so that recycling comes before the kernel does.",
        )
    elif total and limit / total < LEAST_MEMORY:
        yield Finding(
            "memory",
            WARN,
            f"{text}: {show_bytes(limit / total)} each",
            "Lower workers, or raise the cgroup's limit.",
        )
    else:
        yield Finding("memory", OK, text)


def stopping(facts: Facts) -> Iterator[Finding]:
    """The graceful timeout against what whoever stops us allows."""
    for name, config in facts.groups.items():
        fleet = config.fleet
        if config.app.app and fleet.stream_grace >= fleet.graceful_timeout:
            yield Finding(
                "timeouts",
                WARN,
                f"stream_grace {show_seconds(fleet.stream_grace)} is no shorter than "
                f"graceful_timeout {show_seconds(fleet.graceful_timeout)}" + _of(facts, name),
                "Shorten stream_grace: else streams are cut, not ended.",
            )
    needed = max((c.fleet.graceful_timeout for c in facts.groups.values()), default=0.0) + OVERTIME
    if not facts.groups:
        return
    limits = [(facts.stop_timeout, f"TimeoutStopSec of {facts.unit}")] if facts.stop_timeout else []
    if facts.kubernetes:
        limits.append((KUBERNETES_GRACE, "Kubernetes' terminationGracePeriodSeconds, unless set"))
    for limit, whose in limits:
        level = WARN if needed > limit else OK
        text = f"a stop takes up to {show_seconds(needed)}, and {show_seconds(limit)} is {whose}"
        yield Finding(
            "timeouts",
            level,
            text,
            "" if level == OK else "Lower graceful_timeout, or raise the other.",
        )
    if not limits:
        yield Finding(
            "timeouts",
            OK,
            f"a stop takes up to {show_seconds(needed)}; whoever stops "
            "clusterd must wait that long",
        )


def vitals(facts: Facts) -> Iterator[Finding]:
    """The limits of a worker that stands still, in their order."""
    for name, config in _apps(facts):
        one = config.vitals
        for sooner, later in (("hang_dump", "hang_timeout"), ("hang_timeout", "stall_timeout")):
            first, second = getattr(one, sooner), getattr(one, later)
            if 0 < second < first:
                yield Finding(
                    "timeouts",
                    WARN,
                    f"{sooner} {show_seconds(first)} is longer than {later} "
                    f"{show_seconds(second)}{_of(facts, name)}",
                    f"Shorten {sooner}, or raise {later}: the one is to come before the other.",
                )


def keep_alive(facts: Facts) -> Iterator[Finding]:
    for name, config in _serving(facts):
        kept = config.http.keep_alive
        text = f"{show_seconds(kept)} for idle connections{_of(facts, name)}"
        if kept <= PROXY_IDLE:
            yield Finding(
                "keep_alive",
                WARN,
                text,
                "A proxy that keeps them for 60 s, as most do, may ask over one that is "
                "just being closed: keep_alive above 60, or the proxy's below.",
            )
        else:
            yield Finding("keep_alive", OK, text)


def control(facts: Facts) -> Iterator[Finding]:
    if not facts.groups:
        return  # without settings it was not looked for
    if facts.control_error:
        yield Finding("control", FAIL, facts.control_error, "Say another --runtime-dir.")
    elif not facts.control:
        yield Finding(
            "control",
            WARN,
            f"there is no runtime directory ({facts.no_control}), so no command will find the "
            "cluster",
            "Say --runtime-dir, or RuntimeDirectory= in the unit.",
        )
    elif facts.running:
        yield Finding(
            "control",
            WARN,
            f"{facts.control}: a cluster of this name runs there, so 'clusterd run' would end",
            "'clusterd reload' has it take these settings; --name is for a second cluster.",
        )
    else:
        yield Finding("control", OK, f"{facts.control}: can be made")


def logs(facts: Facts) -> Iterator[Finding]:
    if facts.log_error:
        yield Finding("log_file", FAIL, facts.log_error, LOG_REMEDY)


def extras(facts: Facts) -> Iterator[Finding]:
    """Packages that are looked for where something would use them."""
    secured = [name for name, config in _apps(facts) if config.tls.tls_cert]
    if secured and not facts.has_h2:
        text = "over TLS only HTTP/1.1 is spoken: the package h2 is not installed"
        wanted = any(facts.groups[name].http.http2 == "auto" for name in secured)
        if wanted:
            yield Finding("extras", WARN, text, "pip install 'clusterd[h2]', or http2 = off.")
    if facts.remark:
        text, _, remedy = facts.remark.partition("; ")
        yield Finding("extras", WARN, text, remedy)


def tls(facts: Facts) -> Iterator[Finding]:
    for name, config in _apps(facts):
        told = facts.probes.get(name, {}).get("tls", {})
        if not config.tls.tls_cert or not told:
            continue
        if "error" in told:
            yield Finding("tls", FAIL, told["error"] + _of(facts, name), told.get("remedy", ""))
            continue
        left = told["expires"] - facts.now
        names = ", ".join(told["names"]) or "no names"
        if left <= 0:
            yield Finding(
                "tls",
                FAIL,
                f"a certificate has expired{_of(facts, name)}",
                "Renew it; 'clusterd reload --certs' takes it over.",
            )
        elif left < SOON:
            yield Finding(
                "tls",
                WARN,
                f"for {names}: expires in {show_seconds(left)}",
                "Renew it; 'clusterd reload --certs' takes it over.",
            )
        else:
            yield Finding("tls", OK, f"for {names}, {show_seconds(left)} left{_of(facts, name)}")


CHECKS: dict[str, Check] = {
    "settings": settings,
    "app": app,
    "jobs": jobs,
    "preload": preload,
    "later": later,
    "command": command,
    "user": user,
    "paths": paths,
    "bind": addresses,
    "backlog": backlog,
    "descriptors": descriptors,
    "workers": workers,
    "memory": memory,
    "timeouts": stopping,
    "vitals": vitals,
    "keep_alive": keep_alive,
    "tls": tls,
    "extras": extras,
    "control": control,
    "log_file": logs,
}


def _apps(facts: Facts) -> Iterator[tuple[str, Config]]:
    return ((name, config) for name, config in facts.groups.items() if config.app.app)


def _serving(facts: Facts) -> Iterator[tuple[str, Config]]:
    """Return the applications that serve an address: jobs do not."""
    return ((name, config) for name, config in _apps(facts) if config.listen.bind)


def _of(facts: Facts, name: str) -> str:
    """Which group is meant, where there are several."""
    return f" (group {name})" if len(facts.groups) > 1 else ""
