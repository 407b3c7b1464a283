"""The options of `clusterd bench`, under headings, and how their values are written."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from clusterd.cli.options import COLUMN
from clusterd.core.units import parse_bytes, parse_seconds

Function = TypeVar("Function", bound=Callable[..., Any])
PASSED = "clusterd.bench.passed"  # in the context: what follows `--`
AUTO = 0  # workers: as many as there are CPUs for
RANGE = re.compile(r"([1-9]\d{0,5})(?:\.\.|-)([1-9]\d{0,5})", re.ASCII)


class Read(click.ParamType):  # type: ignore[type-arg]  # generic only in newer clicks
    """A value that `read` makes of the text; `allowed` is said where it raises ValueError."""

    def __init__(self, name: str, read: Callable[[str], Any], allowed: str) -> None:
        self.name = name
        self.read = read
        self.allowed = allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.read(value)
        except ValueError:
            self.fail(f"{value!r} is not allowed; allowed: {self.allowed}", param, ctx)


def duration(text: str) -> float:
    """Seconds, more than none."""
    seconds = parse_seconds(text)
    if not 0 < seconds <= 86400:
        raise ValueError
    return seconds


def share(text: str) -> float:
    """`3%` or `0.03`, from 0 to 1."""
    number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def rates(text: str) -> tuple[float, ...]:
    """`5000`, `5k`, or several with commas between."""
    found = tuple(
        float(part.removesuffix("k")) * (1000 if part.endswith("k") else 1)
        for part in text.lower().replace(" ", "").split(",")
    )
    if not all(0 < rate <= 1e7 for rate in found):
        raise ValueError
    return found


def workers(text: str) -> tuple[int, ...]:
    """`1,4,auto`: each number once, in their order."""
    found = [AUTO if part == "auto" else int(part) for part in text.replace(" ", "").split(",")]
    if not all(number == AUTO or 1 <= number <= 1024 for number in found):
        raise ValueError
    if any(part == "0" for part in text.replace(" ", "").split(",")):
        raise ValueError
    return tuple(dict.fromkeys(found))


def span(text: str) -> tuple[int, int]:
    """`1..4096`: from few to many."""
    match = RANGE.fullmatch(text.strip())
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError
    return int(match[1]), int(match[2])


def whole(low: int, high: int) -> "Read":
    """The type of a whole number in these bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return Read("N", read, f"a whole number from {low} to {high}")


TIME = Read("TIME", duration, "10s, 500ms or 2m, and at most a day")
SHARE = Read("SHARE", share, "a share from 0% to 100%, as 3%")
RATES = Read("N", rates, "requests a second, as 5000 or 5k, or several with commas between")
WORKERS = Read("N,…", workers, "numbers from 1 to 1024 and auto, with commas between, as 1,auto")
SPAN = Read("LOW..HIGH", span, "two numbers of connections, as 1..4096")
SIZE = Read("SIZE", parse_bytes, "a size, as 100, 64KiB or 1MiB")

# Heading, then each option's names and what click is told of it.
OPTIONS: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {
    "Who is compared": [
        (
            ("-w", "--workers"),
            {
                "type": WORKERS,
                "default": "1,auto",
                "help": "Numbers of workers that TARGET, and each --against that says {workers}, "
                "is started with; auto is the CPUs, less those that large machines spare for "
                "the generator.  [1,auto]",
            },
        ),
        (
            ("--against",),
            {
                "multiple": True,
                "metavar": "[NAME=]CMD",
                "help": "Another server beside it: a command, in which {port} is filled in, and "
                "{workers}, {app} (TARGET) and {python} where they stand. May be repeated.",
            },
        ),
        (
            ("--app-dir",),
            {
                "metavar": "DIR",
                "type": click.Path(),
                "help": "Directory that the application is imported from, as of 'clusterd run'.",
            },
        ),
        (
            ("--rounds",),
            {
                "type": whole(1, 1000),
                "default": "2",
                "help": "How often each has its turn: A B A B, so that drift hits all alike.  [2]",
            },
        ),
    ],
    "How hard": [
        (
            ("-d", "--duration"),
            {
                "type": TIME,
                "default": "10s",
                "help": "How long a turn lasts, the warm-up with it, cut off by rule.  [10s]",
            },
        ),
        (
            ("-c", "--connections"),
            {
                "type": whole(1, 100_000),
                "default": "64",
                "help": "Connections at once, over all generators.  [64]",
            },
        ),
        (
            ("--rate",),
            {
                "type": RATES,
                "help": "Open loop: so many requests a second are due, by schedule. Several are "
                "measured one after the other.",
            },
        ),
        (
            ("--slo",),
            {
                "multiple": True,
                "metavar": "CONDITION",
                "help": "Find the highest rate that keeps it, as 'p99<50ms'. May be repeated: all "
                "must hold.",
            },
        ),
        (
            ("--ladder",),
            {
                "type": SPAN,
                "help": "More and more connections, four times as many at each step, until the "
                "server no longer holds them.",
            },
        ),
        (("--fresh",), {"is_flag": True, "help": "A new connection for every request."}),
        (
            ("--pipeline",),
            {
                "type": whole(1, 1000),
                "default": "1",
                "help": "Requests under way on a connection at once, in a closed loop.  [1]",
            },
        ),
        (
            ("--timeout",),
            {
                "type": TIME,
                "default": "10s",
                "help": "Time after which an answer is given up, and counts as an error.  [10s]",
            },
        ),
        (
            ("--generators",),
            {
                "type": whole(1, 256),
                "help": "Processes that drive the load.  [as many as it needs]",
            },
        ),
    ],
    "What is asked": [
        (
            ("--path",),
            {
                "multiple": True,
                "metavar": "PATH",
                "help": "What to ask for, below TARGET. May be repeated; each may be a whole line "
                "as in --paths.  [/]",
            },
        ),
        (
            ("--paths",),
            {
                "metavar": "FILE",
                "type": click.Path(),
                "help": "File with a request a line: [WEIGHT] [METHOD] PATH [Name:value …] "
                "[@BODYFILE | body=TEXT].",
            },
        ),
        (
            ("-X", "--method"),
            {"metavar": "METHOD", "help": "Method of every request.  [GET; POST with a body]"},
        ),
        (
            ("-H", "--header"),
            {
                "multiple": True,
                "metavar": "'NAME: VALUE'",
                "help": "Header of every request. May be repeated.",
            },
        ),
        (("--body",), {"metavar": "TEXT", "help": "Body of every request."}),
        (
            ("--body-file",),
            {"metavar": "FILE", "type": click.Path(), "help": "File with the body."},
        ),
        (
            ("--websocket",),
            {"is_flag": True, "help": "Send messages over WebSockets and wait for their echo."},
        ),
        (
            ("--message",),
            {
                "type": SIZE,
                "default": "100",
                "help": "Size of a WebSocket message.  [100]",
            },
        ),
        (
            ("--sse",),
            {"is_flag": True, "help": "Hold streams of server-sent events; time to the first."},
        ),
        (
            ("--ca-file",),
            {
                "metavar": "FILE",
                "type": click.Path(),
                "help": "Authorities to trust instead of the system's, PEM.",
            },
        ),
        (("--insecure",), {"is_flag": True, "help": "Take any certificate."}),
    ],
    "While things break": [
        (("--kill-every",), {"type": TIME, "help": "Kill a worker (SIGKILL), again and again."}),
        (("--reload-every",), {"type": TIME, "help": "Roll in new code, again and again."}),
        (
            ("--broken-deploy",),
            {
                "is_flag": True,
                "help": "Once, roll in code whose import raises; your files are not touched.",
            },
        ),
        (
            ("--slow",),
            {
                "type": SHARE,
                "default": "0%",
                "help": "Share of clients that send their requests slowly, as 3%.",
            },
        ),
    ],
    "What it leaves": [
        (
            ("--report",),
            {
                "metavar": "STEM",
                "type": click.Path(),
                "help": "Where reports go: STEM.html with pictures, STEM.json with all raw "
                "figures.  [clusterd-bench-DATE]",
            },
        ),
        (("--no-report",), {"is_flag": True, "help": "Only print."}),
        (
            ("--pictures",),
            {
                "metavar": "DIR",
                "type": click.Path(),
                "help": "Directory for each picture as PNG and SVG.",
            },
        ),
        (
            ("--fail-on",),
            {
                "multiple": True,
                "metavar": "CONDITION",
                "help": "End with 1 if it is met by any side: 'errors>0', 'p99>50ms', "
                "'throughput<1000'. May be repeated.",
            },
        ),
    ],
}


def all_of_them(function: Function) -> Function:
    """Every option of the table."""
    for group in reversed(OPTIONS.values()):
        for names, about in reversed(group):
            function = click.option(*names, **about)(function)
    return function


class Headed(click.Command):
    """A command whose options are listed under the headings of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        records = {option.opts[-1]: option.get_help_record(ctx) for option in options}
        for heading, group in OPTIONS.items():
            shown = [record for names, _ in group if (record := records.pop(names[-1], None))]
            with formatter.section(heading):
                formatter.write_dl(shown, col_max=COLUMN)
        with formatter.section("Other"):
            formatter.write_dl([record for record in records.values() if record], col_max=COLUMN)
