"""What a benchmark leaves: the table, files, a word on standard error, and its exit status."""

import contextlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from clusterd import __version__
from clusterd.bench import store
from clusterd.bench.conditions import judge
from clusterd.bench.errors import CannotWrite
from clusterd.bench.results import Report
from clusterd.bench.steps import steps
from clusterd.bench.text import table
from clusterd.cli.bench_plan import Asked
from clusterd.core.errors import ClusterdError
from clusterd.core.exits import Exit
from clusterd.core.terminal import clean
from clusterd.core.units import show_bytes

WIDTH = 100  # columns where no terminal tells


def say(text: str) -> None:
    """One sentence for whoever watches, and its remedy below."""
    for number, line in enumerate(text.splitlines()):
        click.echo(clean(line) if number else f"clusterd: {clean(line)}", err=True)


def must_be_writable(asked: Asked) -> None:
    """Raise CannotWrite now, and not after minutes of measuring."""
    if asked.stem is not None:
        folder = asked.stem.parent
        if not folder.is_dir():
            raise CannotWrite(
                f"the report cannot be stored: there is no directory {folder}",
                "Make it, or name another with --report, or say --no-report.",
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise CannotWrite(
                f"the report cannot be stored: {folder} is not writable",
                "Name another place with --report, or say --no-report.",
            )
    if asked.pictures is not None:
        try:
            asked.pictures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(
                f"--pictures: {asked.pictures} cannot be made: {error.strerror}"
            ) from None


def finish(asked: Asked, report: Report) -> int:
    """Print and store it, judge it by --fail-on. What cannot be stored is said, and is 1.

    The raw figures come first: whoever reads the table may have enough of it (`| head`), and
    pictures can be had again.
    """
    files = Files(asked)
    files.store_figures(report)
    is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: it was closed
    wide = shutil.get_terminal_size((WIDTH, 24)).columns if is_terminal else WIDTH
    click.echo(table(report, width=wide, colours=is_terminal))
    if of_each := steps(report):
        click.echo(f"\n{of_each}")
    files.store_pictures(report)
    if files.told:
        click.echo("\n" + "\n".join(files.told))
    code = files.code
    for condition in asked.fail_on:
        for verdict in judge(condition, report):
            weak = f" ({verdict.weak})" if verdict.weak else ""
            if verdict.fails:
                say(f"--fail-on: {verdict.text}{weak}")
                code = code or Exit.FAILED
            elif weak:  # it passes, by a figure that says little
                say(f"--fail-on passes: {verdict.text}{weak}")
    return code


class Files:
    """What is stored, and told of at the end. Once something cannot be stored, nothing else is."""

    def __init__(self, asked: Asked) -> None:
        self._stem = asked.stem
        self._pictures = asked.pictures
        self.told: list[str] = []
        self.code: int = Exit.OK

    def store_figures(self, report: Report) -> None:
        """All raw figures, as JSON."""
        if self._stem is not None:
            raw = _beside(self._stem, ".json")
            with self._noting():
                store.save(report, raw)
                self.told.append(f"raw figures: {raw}")

    def store_pictures(self, report: Report) -> None:
        """The page, and pictures as files."""
        if self.code or (self._stem is None and self._pictures is None):
            return
        from clusterd.bench import canvas, html, pictures  # matplotlib takes a second to import

        drawn = pictures.draw(report)
        with self._noting():
            if self._stem is not None:
                page = _beside(self._stem, ".html")
                store.write(page, html.page(report, drawn, canvas.variables(":root")))
                self.told.insert(0, f"report: {page}")
            if self._pictures is not None:
                made = pictures.save(drawn, self._pictures)
                self.told.append(f"pictures: {len(made)} files in {self._pictures}")

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except ClusterdError as error:
            say(str(error))
            self.code = error.exit


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def versions(asked: Asked) -> dict[str, str]:
    """Of clusterd, Python, and whatever of the commands is a package here."""
    found = {"clusterd": __version__, "python": platform.python_version()}
    names = ["uvloop"]
    for side in asked.sides:
        if asked.cluster is None or side.command != asked.cluster.command:
            names += [Path(word).name for word in shlex.split(side.command)]
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            pass  # a word like any other
    return found


def machine() -> dict[str, str]:
    """What it ran on."""
    return {
        "cpu": _line("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": show_bytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "kernel": platform.release(),
        "system": _line("/etc/os-release", "PRETTY_NAME", "=").strip('"') or sys.platform,
    }


def _line(path: str, name: str, equals: str = ":") -> str:
    try:
        text = Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
    pairs = (line.partition(equals) for line in text.splitlines())
    return next((value.strip() for key, _, value in pairs if key.strip() == name), "")
