"""What a command line of `clusterd bench` comes to: sides, load, chaos, conditions; or why not."""

import datetime
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clusterd.bench import load as loads
from clusterd.bench.chaos import Havoc
from clusterd.bench.conditions import Condition, parse, parse_slo
from clusterd.bench.ladders import Connections, Fixed, Highest, Plan
from clusterd.bench.load import Load, Target
from clusterd.bench.places import cores, spare
from clusterd.bench.requests import parse_requests
from clusterd.bench.results import Side
from clusterd.bench.target import BARE, is_target, parse_target
from clusterd.cli import bench_cluster
from clusterd.cli.bench_options import AUTO
from clusterd.config.cpus import available_cpus
from clusterd.core.errors import ConfigError
from clusterd.core.units import show_seconds

ABOUT = "'clusterd bench --help' explains."
# No word of a name begins with a dash: `gunicorn --bind=:{port}` has none.
NAMED = re.compile(r"([A-Za-z](?:(?! -)[\w .-]){0,39})=(?=\S)(.+)", re.ASCII | re.DOTALL)
WORKERS = "{workers}"


@dataclass(frozen=True, slots=True)
class Asked:
    """All that was asked, checked as far as it can be before anything is started."""

    target: str
    url: Target | None  # None: an application, which is started
    cluster: bench_cluster.Cluster | None
    sides: list[Side]
    load: Load  # that all turns resemble
    plan: Plan
    rounds: int
    havoc: Havoc
    slo: tuple[Condition, ...] = ()
    fail_on: tuple[Condition, ...] = ()
    generators: int = 0  # 0: as many as it needs
    stem: Path | None = None  # of the reports; None: none are wanted
    pictures: Path | None = None
    settings: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def turns(self) -> int:
        """How many there will be; 0 where it depends on what comes of them."""
        if not isinstance(self.plan, Fixed):
            return 0
        return len(self.plan.loads) * len(self.sides) * self.rounds


def plan(target: str, asked: Mapping[str, Any], passed: Sequence[str]) -> Asked:
    """Raises ConfigError for what cannot be meant."""
    url = _url(target, asked, passed)
    if url is not None and url.scheme in ("ws", "wss"):
        asked = {**asked, "websocket": True}
    havoc = Havoc(asked["kill_every"] or 0.0, asked["reload_every"] or 0.0, asked["broken_deploy"])
    _refuse_contradictions(asked)
    numbers = _numbers(asked["workers"])
    cluster = None
    if url is None:
        cluster = bench_cluster.cluster(target, passed, asked["app_dir"], havoc.broken_deploy)
    elif havoc and not asked["against"]:
        raise ConfigError(
            f"what serves {target} was not started by the benchmark, so it cannot be disturbed",
            "Name an application, or start the server with --against.",
        )
    sides = _sides(target, cluster, numbers) + _others(asked["against"], numbers)
    _refuse_twins(sides)
    slo = _slo(asked["slo"])
    load = _load(url, asked)
    return Asked(
        target,
        url,
        cluster,
        sides,
        load,
        _plan(load, asked, slo),
        asked["rounds"],
        havoc,
        slo,
        tuple(parse(text) for text in asked["fail_on"]),
        asked["generators"] or 0,
        None if asked["no_report"] else _stem(asked["report"]),
        Path(asked["pictures"]) if asked["pictures"] else None,
        settings(asked, passed, numbers if cluster or asked["against"] else ()),
        _notes(cluster, sides, max(asked["ladder"] or (asked["connections"],))),
    )


def _notes(
    cluster: bench_cluster.Cluster | None, sides: Sequence[Side], connections: int
) -> list[str]:
    return [] if cluster is None else [*cluster.notes, *_crowded(cluster, sides, connections)]


def _url(target: str, asked: Mapping[str, Any], passed: Sequence[str]) -> Target | None:
    """Where requests go, if that is given; None for an application."""
    if BARE.fullmatch(target):
        parse_target(target)  # raises, and says what it may have meant
    if not is_target(target):
        for flag in ("ca_file", "insecure"):
            if asked[flag]:
                raise ConfigError(
                    f"--{flag.replace('_', '-')} is for a URL: the certificate of an application "
                    "that is started here is not looked at",
                )
        return None
    if passed:
        raise ConfigError(
            f"{shlex.join(passed)} is for 'clusterd run', and {target} is served already",
            "Leave it away, or name an application.",
        )
    if asked["app_dir"]:
        raise ConfigError("--app-dir is for an application, and a URL is given", ABOUT)
    return parse_target(target, verify=not asked["insecure"], ca_file=asked["ca_file"] or "")


# Options that contradict each other, and why.
TOGETHER = [
    ("slo", "rate", "--slo looks for the rate itself"),
    ("slo", "ladder", "one of them decides what comes next"),
    ("websocket", "sse", "a connection is one of them"),
    ("fresh", "websocket", "a WebSocket is held, and asked over and over"),
    ("fresh", "sse", "a stream of events has its own connection anyway"),
    ("slow", "websocket", "slow clients send HTTP requests"),
    ("slow", "sse", "slow clients wait for the end of an answer"),
    ("paths", "path", "the file says it all"),
    ("body", "body_file", "there is one body"),
    ("report", "no_report", "only one of them can be meant"),
]


def _refuse_contradictions(asked: Mapping[str, Any]) -> None:
    def flag(name: str) -> str:
        return "--" + name.replace("_", "-")

    for one, other, why in TOGETHER:
        if asked[one] and asked[other]:
            raise ConfigError(f"{flag(one)} and {flag(other)} exclude each other: {why}", ABOUT)
    if asked["pipeline"] > 1:
        for other in ("rate", "slo", "fresh", "websocket", "sse"):
            if asked[other]:
                raise ConfigError(f"--pipeline and {flag(other)} exclude each other", ABOUT)
    if asked["ladder"] and asked["rate"] and len(asked["rate"]) > 1:
        raise ConfigError("--ladder takes one --rate, or none", ABOUT)


def _slo(texts: Sequence[str]) -> tuple[Condition, ...]:
    """What a rate has to keep. Without a bound on latency every rate would do."""
    found = tuple(condition for text in texts for condition in parse_slo(text))
    if found and not any(
        one.metric in ("p", "mean", "max") and one.relation[0] == "<" for one in found
    ):
        raise ConfigError(
            f"--slo: {', '.join(texts)} bounds no latency", "Say how long, as 'p99<50ms'."
        )
    return found


def _numbers(asked: Sequence[int]) -> tuple[int, ...]:
    """Numbers of workers, auto decided; each once."""
    auto = max(1, available_cpus() - spare(cores()))
    return tuple(dict.fromkeys(auto if number == AUTO else number for number in asked))


def _plural(number: int) -> str:
    return f"{number} worker{'s' * (number != 1)}"


def _sides(
    target: str, cluster: bench_cluster.Cluster | None, numbers: Sequence[int]
) -> list[Side]:
    if cluster is None:
        return [Side(target)]
    return [Side(_plural(number), cluster.command, number) for number in numbers]


def _others(texts: Sequence[str], numbers: Sequence[int]) -> list[Side]:
    found = []
    for text in texts:
        name, command = _named(text)
        if "{port}" not in command:
            raise ConfigError(
                f"--against: {command!r} does not say {{port}}",
                "Write {port} where the server is told on which port of 127.0.0.1 to listen.",
            )
        if WORKERS in command:
            found += [Side(f"{name}, {_plural(number)}", command, number) for number in numbers]
        else:
            found.append(Side(name, command))
    return found


def _named(text: str) -> tuple[str, str]:
    """`NAME=CMD`, or a command, whose program names it."""
    match = NAMED.fullmatch(text.strip())
    command = match[2].strip() if match else text
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--against: {command!r} is no command: {error}") from None
    if not words:
        raise ConfigError("--against: there is no command", ABOUT)
    if match:
        return match[1].strip(), command
    if words[0] == "{python}" and words[1:2] == ["-m"] and len(words) > 2:
        return words[2], command
    return Path(words[0]).name, command


def _refuse_twins(sides: Sequence[Side]) -> None:
    names = [side.name for side in sides]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two sides are called {name!r}", "Name them: --against 'NAME=COMMAND'."
            )


def _load(url: Target | None, asked: Mapping[str, Any]) -> Load:
    protocol = loads.WEBSOCKET if asked["websocket"] else loads.SSE if asked["sse"] else loads.HTTP
    requests = parse_requests(
        url or Target("http", "127.0.0.1", 1),
        method=asked["method"] or "",
        headers=asked["header"],
        body=asked["body"].encode() if asked["body"] is not None else None,
        body_file=asked["body_file"] or "",
        paths=asked["path"],
        paths_file=asked["paths"] or "",
        protocol=protocol,
    )
    return Load(
        requests,
        asked["connections"],
        asked["rate"][0] if asked["rate"] else 0.0,
        asked["duration"],
        protocol,
        asked["fresh"],
        asked["pipeline"],
        asked["timeout"],
        asked["slow"],
        message=asked["message"],
    )


def _crowded(cluster: bench_cluster.Cluster, sides: Sequence[Side], connections: int) -> list[str]:
    """A note where a side may not hold as many connections as it is to get."""
    most = cluster.config.http.max_connections
    few = [
        side
        for side in sides
        if side.command == cluster.command and side.workers * most < connections
    ]
    if not few:
        return []
    return [
        f"a worker holds {most:,} connections at most (max_connections), so the rest of "
        f"{connections:,} wait where there is only {_plural(min(side.workers for side in few))}: "
        "-- --max-connections changes that"
    ]


def _plan(load: Load, asked: Mapping[str, Any], slo: tuple[Condition, ...]) -> Plan:
    if slo:
        return Highest(load, lambda turn: all(one.keeps(turn) for one in slo))
    if asked["ladder"]:
        return Connections(load, *asked["ladder"])
    return Fixed(tuple(replace(load, rate=rate) for rate in asked["rate"] or (0.0,)))


def _stem(report: str | None) -> Path:
    """Where reports go; a name that ends as one of them is meant as its stem, and a directory as
    where those of the usual name go."""
    path = Path(report or "")
    if path.is_dir():
        return path / f"clusterd-bench-{datetime.datetime.now():%Y-%m-%d-%H%M%S}"
    return path.with_suffix("") if path.suffix in (".html", ".json") else path


def settings(
    asked: Mapping[str, Any], passed: Sequence[str], numbers: Sequence[int]
) -> dict[str, str]:
    """The options as they were resolved, for the report: those that say something."""
    shown: dict[str, str] = {}
    for name, value in asked.items():
        if name in ("report", "no_report", "pictures") or value in (None, False, ()):
            continue
        if name == "workers":
            if numbers:
                shown[name] = ", ".join(map(str, numbers))
        elif name in ("duration", "timeout", "kill_every", "reload_every"):
            shown[name.replace("_", "-")] = show_seconds(value)
        elif name == "slow":
            shown |= {name: f"{value:.1%}"} if value else {}
        elif name == "message":
            shown |= {name: f"{value} bytes"} if asked["websocket"] else {}
        else:
            shown[name.replace("_", "-")] = _text(value)
    if passed:
        shown["clusterd run"] = shlex.join(passed)
    return shown


def _text(value: Any) -> str:
    if value is True:
        return "yes"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return str(value)
