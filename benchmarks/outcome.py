"""What a scenario hands back: samples by server and measure, and figures against their targets."""

import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the table. `exact` figures are counts: there noise is no excuse."""

    what: str
    value: float
    unit: str = ""
    target: float | None = None
    at_least: bool = False
    exact: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None when there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(slots=True)
class Outcome:
    """Samples as measured, in order of rounds; what they amount to; and what went wrong."""

    units: dict[str, str]  # measure -> unit; only these measures may be added
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # pictures, by the end of their names

    def add(self, server: str, measure: str, *values: float) -> None:
        """Write samples down."""
        if measure not in self.units:
            raise KeyError(measure)
        self.samples.setdefault(server, {}).setdefault(measure, []).extend(values)

    def of(self, server: str, measure: str) -> list[float]:
        """The samples of one server; empty when it was not measured."""
        return self.samples.get(server, {}).get(measure, [])

    def median(self, server: str, measure: str) -> float | None:
        """The median of one server's samples, or None without any."""
        samples = self.of(server, measure)
        return statistics.median(samples) if samples else None

    def ratio(self, measure: str, server: str, other: str) -> float | None:
        """The median over rounds of this server's sample by the other's of the same round."""
        pairs = zip(self.of(server, measure), self.of(other, measure), strict=False)
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return statistics.median(ratios) if ratios else None

    def figure(
        self,
        what: str,
        value: float | None,
        target: float | None = None,
        unit: str = "",
        at_least: bool = False,
        exact: bool = False,
    ) -> None:
        """Judge a figure; one that could not be had (a peer left out) is not written down."""
        if value is not None:
            self.figures.append(Figure(what, value, unit, target, at_least, exact))
