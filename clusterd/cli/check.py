"""`clusterd check`: look at app, settings and machine before anything is started."""

import json

import click

from clusterd.cli.checks import FAIL, OK, WARN, Finding, judged
from clusterd.cli.facts import gather
from clusterd.cli.here import directory
from clusterd.cli.options import Grouped, every_setting
from clusterd.core.exits import Exit
from clusterd.core.terminal import clean

COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}
NAMES = 12  # columns of the check's name


@click.command(cls=Grouped)
@every_setting
@click.option("--unit", metavar="NAME", default="", help="systemd service whose limits count.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def check(unit: str, as_json: bool, **values: object) -> int:
    """Look at app, settings and machine, and say what is wrong.

    Takes the same options as 'clusterd run', and starts nothing: the application is imported once
    in a process of its own, and addresses are tried and left. Beside that: settings, certificates,
    backlog and descriptors against the system's limits, workers against CPUs and memory of the
    cgroup, timeouts against each other and those of systemd or Kubernetes, the runtime directory.

    Ends with 1 when something fails; warnings alone are 0.
    """
    found = judged(gather(values, directory(), unit))
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(shown(finding))
        click.echo(summary(found))
    return Exit.FAILED if any(finding.level == FAIL for finding in found) else Exit.OK


def shown(finding: Finding) -> str:
    """A finding as people read it; colours are left out where the output is no terminal."""
    level = click.style(f"{finding.level:<4}", fg=COLOURS[finding.level])
    indent = " " * (len("warn") + NAMES + 2)
    lines = [f"{level} {finding.check:<{NAMES}} {clean(finding.text)}"]
    if finding.remedy:
        lines.append(f"{indent}{clean(finding.remedy)}")
    lines += [f"{indent}{clean(line)}" for line in finding.below.expandtabs().splitlines()]
    return "\n".join(lines)


def summary(found: list[Finding]) -> str:
    """How much of each."""
    levels = [finding.level for finding in found]
    wrong, odd = levels.count(FAIL), levels.count(WARN)
    if not wrong and not odd:
        return "all is well"
    return f"{wrong} failed, {odd} warning{'s' * (odd != 1)}"
