"""The pictures of a report: which there are, drawn where there is something to show, and stored."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clusterd.bench.canvas import Picture, styled
from clusterd.bench.draw_loads import connections, rates, scaling
from clusterd.bench.draw_sides import evenness, latency, throughput
from clusterd.bench.draw_time import timeline
from clusterd.bench.errors import CannotWrite
from clusterd.bench.figures import main
from clusterd.bench.results import Report
from clusterd.bench.store import write
from clusterd.bench.views import View, chosen

# In reading order: how much, how fast, under which load, and how it came about.
DRAWN: tuple[Callable[[Report, Sequence[View]], Picture | None], ...] = (
    throughput,
    latency,
    rates,
    connections,
    scaling,
    evenness,
    timeline,
)


def draw(report: Report) -> dict[str, Picture]:
    """Every picture that this report has something to show in, by name, in reading order."""
    views = chosen(main(report), report)
    with styled():
        made = [one(report, views) for one in DRAWN] if views else []
    return {picture.name: picture for picture in made if picture is not None}


def save(pictures: Mapping[str, Picture], directory: Path) -> list[Path]:
    """Each as SVG and PNG into that directory, which is made; raises CannotWrite."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"{directory} cannot be made: {error.strerror}") from error
    paths = []
    for name, picture in pictures.items():
        for suffix, data in ((".svg", picture.svg()), (".png", picture.png())):
            paths.append(directory / f"{name}{suffix}")
            write(paths[-1], data)
    return paths
