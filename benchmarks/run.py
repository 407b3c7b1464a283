"""The command line: choose scenarios, make the environment, run, show, record."""

import argparse
import signal
import sys
import textwrap
import time
from pathlib import Path

from benchmarks import environment, proc, report, servers
from benchmarks.scenarios import ALL
from benchmarks.session import Session

EPILOG = """
Without --smoke the servers run in an environment of their own under .bench/, made on first use
with the interpreter given (else the newest from 3.12 on that is found) and filled with clusterd
and its peers from PyPI; Node takes part where `node` is on the PATH.
"""


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(
        f"  {name:17} {(scenario.__doc__ or '').splitlines()[0]}" for name, scenario in ALL.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure clusterd against its peers.\n\nscenarios:\n" + listed,
        epilog=textwrap.fill(EPILOG.strip(), 90),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "scenario",
        nargs="*",
        metavar="SCENARIO",
        help="which to run; `all` runs every one",
    )
    parser.add_argument("--rounds", type=int, help="rounds (kills, reloads) instead of the usual")
    parser.add_argument("--smoke", action="store_true", help="tiny runs of clusterd alone, for CI")
    parser.add_argument("--python", metavar="PATH", help="the interpreter that the servers run on")
    parser.add_argument(
        "--as-installed",
        action="store_true",
        help="install nothing: the interpreter is used with the packages that it has",
    )
    parser.add_argument("--servers", metavar="A,B", default="", help="only these servers")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where to record")
    parser.add_argument("--no-record", action="store_true", help="show the figures only")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run what was asked for. Status 1: a smoke run saw something broken."""
    parser = _parser()
    options = parser.parse_args(argv)
    strange = set(options.scenario) - {*ALL, "all"}
    if strange:
        parser.error(f"no such scenario: {', '.join(sorted(strange))}")
    names = list(ALL) if "all" in options.scenario else options.scenario
    if options.smoke and not names:
        names = list(ALL)
    if not names:
        parser.error("name a scenario, or `all`")
    only = tuple(name for name in options.servers.split(",") if name)
    unknown = set(only) - {server.name for server in servers.TABLE}
    if unknown:
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    if options.smoke and not only:
        only = (servers.CLUSTERD.name, servers.CLUSTERD_UNGATED.name)
    proc.adopt_orphans()
    # So that a driver that is stopped stops its servers, as it does on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    used = environment.prepare(options.python, peers=not (options.smoke or options.as_installed))
    session = Session(used, only, options.rounds, options.smoke)
    recording = not (options.smoke or options.no_record)
    folder = (options.results or report.RESULTS) if recording else None
    broken = [name for name in names if not _run_one(name, session, folder)]
    return int(bool(broken) and options.smoke)


def _run_one(name: str, session: Session, folder: Path | None) -> bool:
    """Run a scenario; false when a count that must be exact is off."""
    machine = environment.machine()
    begun = time.perf_counter()
    try:
        outcome = ALL[name].run(session)
    finally:
        left = proc.sweep()
    if left:
        outcome.notes.append(f"{len(left)} processes outlived their server and were killed")
    print(report.show(name, outcome), flush=True)
    print(f"  ({time.perf_counter() - begun:.0f} s)", flush=True)
    if folder is not None and outcome.samples:  # a scenario that cannot run here keeps its record
        report.record(name, outcome, session.environment, machine, folder)
        report.write_page(ALL, folder)
    return all(figure.reached for figure in outcome.figures if figure.exact)
