"""Recorded results: one JSON file a scenario, and one page for people made from all of them."""

import inspect
import json
import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.environment import Environment
from benchmarks.outcome import Figure, Outcome

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = "README.md"


def number(value: float) -> str:
    """Three significant digits, as people read them."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(samples: list[float]) -> str:
    """Median and, with more than one sample, the smallest and the largest."""
    middle = number(statistics.median(samples))
    if len(samples) == 1:
        return middle
    return f"{middle} ({number(min(samples))}–{number(max(samples))})"


def record(
    name: str, outcome: Outcome, used: Environment, machine: dict[str, Any], folder: Path
) -> None:
    """Write a scenario's result down and make the page anew."""
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "scenario": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": used.versions,
        "units": outcome.units,
        "samples": {
            server: {measure: [round(x, 4) for x in values] for measure, values in measured.items()}
            for server, measured in outcome.samples.items()
        },
        "figures": [{**asdict(figure), "reached": figure.reached} for figure in outcome.figures],
        "notes": outcome.notes,
    }
    Path(folder, f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    for end, content in outcome.files.items():
        Path(folder, f"{name}-{end}").write_text(content)


def write_page(scenarios: dict[str, ModuleType], folder: Path) -> None:
    """The page for people, from whatever is recorded."""
    results = {}
    for name in scenarios:
        path = Path(folder, f"{name}.json")
        if path.exists():
            results[name] = json.loads(path.read_text())
    lines = [
        "# Recorded figures",
        "",
        "Made by `python -m benchmarks`; see [the method and its limits](../README.md).",
        "",
        *_figures(results),
    ]
    for name, result in results.items():
        lines += _section(name, scenarios[name], result)
        pictures = sorted(folder.glob(f"{name}-*.svg"))
        lines += ["", *(f"![{path.stem}]({path.name})" for path in pictures)] if pictures else []
    Path(folder, PAGE).write_text("\n".join(lines) + "\n")


def _figures(results: dict[str, Any]) -> list[str]:
    lines = ["| scenario | figure | target | measured | reached |", "|---|---|---|---|---|"]
    for name, result in results.items():
        for fields in result["figures"]:
            reached = {True: "yes", False: "**no**", None: ""}[fields.pop("reached")]
            figure = Figure(**fields)
            lines.append(
                f"| {name} | {figure.what} | {_target(figure)} | "
                f"{number(figure.value)} {_unit(figure)}| {reached} |"
            )
    return lines


def _unit(figure: Figure) -> str:
    return f"{figure.unit} " if figure.unit else ""


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    return f"{'≥' if figure.at_least else '≤'} {number(figure.target)} {_unit(figure)}".strip()


def _section(name: str, scenario: ModuleType, result: dict[str, Any]) -> list[str]:
    measures = list(result["units"])
    heads = [f"{name} {unit}".strip() for name, unit in result["units"].items()]
    lines = ["", f"## {name}", "", inspect.getdoc(scenario) or "", ""]
    lines += [f"| server | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    rounds = 0
    for server, samples in result["samples"].items():
        cells = [spread(samples[name]) if samples.get(name) else "" for name in measures]
        rounds = max([rounds, *(len(values) for values in samples.values())])
        lines.append(f"| {server} | {' | '.join(cells)} |")
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    versions = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    lines += ["", f"Median (smallest–largest) of up to {rounds} samples; {result['date']}."]
    lines += [f"Machine: {machine}. Versions: {versions}."]
    lines += ["", *(f"- {note}" for note in result["notes"])] if result["notes"] else []
    return lines


def show(name: str, outcome: Outcome) -> str:
    """The outcome as text for a terminal."""
    lines = [f"== {name}"]
    for server, samples in outcome.samples.items():
        said = [f"{m} {spread(v)} {outcome.units[m]}".strip() for m, v in samples.items()]
        lines.append(f"  {server:18} {';  '.join(said)}")
    for figure in outcome.figures:
        verdict = {True: "reached", False: "MISSED", None: ""}[figure.reached]
        lines.append(
            f"  {figure.what}: {number(figure.value)} {_unit(figure)}"
            f"(target {_target(figure) or 'none'}) {verdict}"
        )
    lines += [f"  note: {note}" for note in outcome.notes]
    return "\n".join(lines)
