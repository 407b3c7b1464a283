"""Writes what the documents take from the code, between their marks: `python man/generate.py`.

The settings of the README and the man pages come from `clusterd.config.settings`, the commands
from `clusterd.cli.commands`, the worker's life from `clusterd.fleet.lifecycle`, the README's
figures from `benchmarks/results/`, metrics from `clusterd.observe.catalogue`. A test fails when a
document has drifted from the code.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import versus  # noqa: E402  # found only through the line above
from clusterd.cli import bench_options, unit  # noqa: E402
from clusterd.cli.commands import COMMANDS  # noqa: E402
from clusterd.cli.options import metavar, shown_default  # noqa: E402
from clusterd.config.convert import allowed  # noqa: E402
from clusterd.config.kinds import Kind, Setting  # noqa: E402
from clusterd.config.resolve import load_groups  # noqa: E402
from clusterd.config.settings import SECTIONS, TABLE, title  # noqa: E402
from clusterd.config.sources import NOT_IN_A_FILE  # noqa: E402
from clusterd.fleet.lifecycle import LEGAL, MOOT, Cue, Phase  # noqa: E402
from clusterd.observe.catalogue import (  # noqa: E402
    CAUSES,
    CLUSTER,
    OF_GROUPS,
    OF_SLOTS,
    TALLIES,
)

BEGIN, END = "made by man/generate.py: ", "end of what man/generate.py made"


def sections() -> Iterator[tuple[str, list[Setting]]]:
    """Headings, and the settings under each."""
    for section in SECTIONS:
        yield title(section), [row for row in TABLE.values() if row.section == section]


def roff(text: str) -> str:
    """Plain text as roff takes it; one sentence a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("…", "\\[u2026]")
    lines = re.sub(r"(?<=\.) (?=[A-Z])", "\n", text).splitlines()
    return "\n".join("\\&" + line if line.startswith(".") else line for line in lines)


def options() -> str:
    """The options of `clusterd run`, for clusterd(1)."""
    out: list[str] = []
    for heading, rows in sections():
        if not any(row.is_option for row in rows):
            continue
        out.append(f".SS {heading}")
        for row in filter(lambda row: row.is_option, rows):
            out += [".TP", _tag(row), roff(row.about.help)]
            if row.name != "app":
                out.append(f"Default: {roff(shown_default(row))}.")
    return "\n".join(out)


def _tag(row: Setting) -> str:
    """`.BR` sets its arguments bold and roman in turn."""
    flag = roff(row.flag)
    if row.name == "app":
        return f".I {metavar(row)}"
    if row.about.kind is Kind.SWITCH:
        return f'.BR {flag} ", " {roff("--no-" + row.flag[2:])}'
    short = f'{roff(row.about.short)} ", " ' if row.about.short else ""
    return f'.BR {short}{flag} " \\fI{roff(metavar(row))}\\fR"'


def keys() -> str:
    """The keys of clusterd.toml(5)."""
    out: list[str] = []
    for heading, rows in sections():
        rows = [row for row in rows if row.name not in NOT_IN_A_FILE]
        out += [f".SS {heading}"] if rows else []
        for row in rows:
            out += [".TP", f".B {row.path}", roff(row.about.help)]
            out.append(f"Allowed: {roff(allowed(row))}.")
            out.append(f"Default: {roff(shown_default(row)) or 'none'}.")
    return "\n".join(out)


def bench() -> str:
    """The options of `clusterd bench`, for clusterd-bench(1)."""
    out: list[str] = []
    for heading, group in bench_options.OPTIONS.items():
        out.append(f".SS {heading}")
        for names, about in group:
            told, _, default = about["help"].partition("  [")
            flags = ' ", " '.join(map(roff, names))
            value = "" if about.get("is_flag") else about.get("metavar") or about["type"].name
            shown = f' " \\fI{roff(value)}\\fR"' if value else ""
            out += [".TP", f".BR {flags}{shown}", roff(told)]
            if default:
                out.append(f"Default: {roff(default.removesuffix(']'))}.")
    return "\n".join(out)


def commands() -> str:
    """The commands of clusterd(1)."""
    out: list[str] = []
    for name, (_, _, line) in COMMANDS.items():
        out += [".TP", f".B {name}", roff(line)]
    return "\n".join(out)


def life() -> str:
    """The worker's life: a row a phase, a column a cue."""
    cues = list(Cue)
    out = [".nf", "phase     " + "".join(f"{cue:<10}" for cue in cues).rstrip()]
    for phase in Phase:
        if phase is not Phase.GONE:
            cells = "".join(f"{_after(phase, cue):<10}" for cue in cues)
            out.append(f"{phase:<10}{cells}".rstrip())
    return "\n".join([*out, ".fi"])


def _after(phase: Phase, cue: Cue) -> str:
    if (phase, cue) in LEGAL:
        return str(LEGAL[phase, cue])
    return "-" if (phase, cue) in MOOT else "bug"


def metrics() -> str:
    """The metrics of clusterd-metrics(7)."""
    out: list[str] = []
    tallies = tuple(TALLIES.values())
    of = {"the cluster": CLUSTER + tallies, "each group": OF_GROUPS, "each slot": OF_SLOTS}
    for whose, rows in of.items():
        out.append(f".SS Of {whose}")
        for row in rows:
            labels = f" {{{', '.join(row.labels)}}}" if row.labels else ""
            out += [".TP", f'.BR {row.full} "{labels}"' if labels else f".B {row.full}"]
            apps = ", of applications" if row.of_apps else ""
            out.append(f"{roff(row.help)} ({row.kind}{apps})")
    return "\n".join(out)


def causes() -> str:
    """Why workers end, for clusterd-metrics(7)."""
    lines = [(".TP", f".B {cause}", roff(why)) for cause, why in CAUSES.items()]
    return "\n".join(part for line in lines for part in line)


def importing() -> str:
    """The text of clusterd-importing(7), which a wheel brings along."""
    return _page("importing.md")


def safely() -> str:
    """The text of clusterd-running-safely(7)."""
    return _page("running-safely.md")


def jobs() -> str:
    """The text of clusterd-jobs(7)."""
    return _page("jobs.md")


def _page(name: str) -> str:
    """Return a file of docs/ as a manual page has it."""
    out: list[str] = []
    is_code = False
    for line in (ROOT / "docs" / name).read_text().splitlines()[1:]:
        if line.startswith("```"):
            is_code = not is_code
            out.append(".EX" if is_code else ".EE")
        elif is_code:
            out.append(roff(line))
        elif line.startswith("#"):
            out.append(f".SH {_inline(line.lstrip('# '))}")
        elif line.startswith("|"):
            left, right = (cell.strip() for cell in line.strip("|").split("|"))
            out += [] if set(left) == {"-"} else [".TP", _inline(left), _inline(right)]
        elif line.startswith("- "):
            out += [".IP \\(bu 2", _inline(line[2:])]
        else:
            out.append(_inline(line.strip()) or ".PP")
    # A paragraph begins by itself after a heading, and where the file has blank lines in a row.
    text = re.sub(r"(\.SH [^\n]*)\n\.PP\n", r"\1\n", "\n".join(out))
    return text.removeprefix(".PP\n").removesuffix("\n.PP")


def _inline(text: str) -> str:
    """A line of Markdown: code and emphasis are bold, of a link its words stay."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"(`|\*\*)(.+?)\1", r"\\fB\2\\fR", roff(text))


def settings() -> str:
    """The README's table of settings."""
    out: list[str] = []
    for heading, rows in sections():
        out += [f"**{heading}**", "", "| key | default | what it is |", "|---|---|---|"]
        for row in rows:
            default = shown_default(row).replace("|", "\\|")
            code = f"`{default}`" if default and not row.about.shown else default
            out.append(f"| `{row.path}` | {code} | {row.about.help.replace('|', chr(92) + '|')} |")
        out.append("")
    return "\n".join(out).rstrip()


def figures() -> str:
    """The README's figures: of those that `python -m benchmarks` recorded, the promised ones."""
    out = ["| scenario | what | target | measured |", "|---|---|---|---|"]
    for path in sorted((ROOT / "benchmarks/results").glob("*.json")):
        for figure in json.loads(path.read_text())["figures"]:
            if figure["target"] is not None:
                cells = (path.stem, figure["what"], _target(figure), _measured(figure))
                out.append(f"| {' | '.join(cells)} |")
    if len(out) == 2:
        return "None is recorded yet: `python -m benchmarks all` measures them."
    more = (
        "[benchmarks/results](benchmarks/results/README.md) has the samples, the machine, and "
        "figures without a target."
    )
    return "\n".join([*out, "", more])


def cluster() -> str:
    """The README's page of one worker against many, as `python -m benchmarks` recorded it."""
    path = ROOT / "benchmarks/results/cluster.json"
    if not path.exists():
        return "None is recorded yet: `python -m benchmarks cluster` measures them."
    pictures = (
        f"![{alt}](benchmarks/results/cluster-{name}.svg)\n"
        for name, alt in versus.PICTURES.items()
        if (path.parent / f"cluster-{name}.svg").exists()
    )
    return "\n".join([*pictures, *versus.table(json.loads(path.read_text()))])


def _target(figure: dict[str, Any]) -> str:
    return f"{'≥' if figure['at_least'] else '≤'} {figure['target']:g} {figure['unit']}".strip()


def _measured(figure: dict[str, Any]) -> str:
    text = f"{figure['value']:.3g} {figure['unit']}".strip()
    return f"**{text}** (missed)" if figure["reached"] is False else text


PARTS: dict[str, Callable[[], str]] = {
    "options": options,
    "keys": keys,
    "commands": commands,
    "bench": bench,
    "life": life,
    "metrics": metrics,
    "causes": causes,
    "importing": importing,
    "safely": safely,
    "jobs": jobs,
    "settings": settings,
    "figures": figures,
    "cluster": cluster,
}
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "man").glob("clusterd*.[1-8]"))]


def rendered(text: str, only: set[str] | None = None) -> str:
    """A document with what is between its marks made anew."""

    def make(match: re.Match[str]) -> str:
        part = match["part"]
        if only is not None and part not in only:
            return match[0]
        return f"{match['begin']}\n{PARTS[part]()}\n{match['end']}"

    marks = rf"(?P<begin>^[^\n]*{BEGIN}(?P<part>\w+)[^\n]*$)\n.*?^(?P<end>[^\n]*{END}[^\n]*$)"
    return re.sub(marks, make, text, flags=re.DOTALL | re.MULTILINE)


def units() -> dict[Path, str]:
    """The units under examples/: what `clusterd systemd` prints for an application in /srv."""
    options = ["shop.main:app", "--bind", "0.0.0.0:8000"]
    (config,) = load_groups({"app": options[0], "bind": (options[2],)}, {}, "/srv/shop").values()
    made_by = f"clusterd systemd {' '.join(options)} --socket"
    command = ("/srv/shop/.venv/bin/clusterd", "run", *options)
    plan = unit.Plan("shop", command, "/srv/shop", made_by, activated=True)
    places = {options[2]: [options[2]]}
    return {
        ROOT / "examples/shop.service": unit.service(plan, config),
        ROOT / "examples/shop.socket": unit.sockets(plan, config, places),
    }


def main() -> None:
    """Write every document anew."""
    for path in DOCUMENTS:
        path.write_text(rendered(path.read_text()))
    for path, text in units().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
