"""How throughput grows with workers: the Universal Scalability Law, fitted to measured points.

X(n) = λ n / (1 + σ (n − 1) + κ n (n − 1)) (Gunther, "Guerrilla Capacity Planning", 2007): λ is what
one does, σ the share of the work that has to queue for something, κ what keeping each other
informed costs. n / X is linear in 1, n − 1 and n (n − 1), so least squares do; each point weighs by
its X / n, which makes what is minimised the relative errors of X (to first order).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from clusterd.bench import noise

Row = tuple[float, ...]
Matrix = list[list[float]]
SINGULAR = 1e-12


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted law. It speaks for workers up to `measured`; beyond, it is a guess."""

    rate: float  # λ, a second
    contention: float  # σ, 0 to 1
    crosstalk: float  # κ
    error: float | None  # of the points, relative, root mean square; None: as many terms as points
    measured: int  # the most workers among the points
    freedom: int  # points more than terms
    # How uncertain 1/λ, σ/λ and κ/λ are, together: a covariance. Empty where nothing says so.
    covariance: tuple[tuple[float, ...], ...] = ()

    def at(self, workers: float) -> float:
        """Throughput a second."""
        slowed = 1 + self.contention * (workers - 1) + self.crosstalk * workers * (workers - 1)
        return self.rate * workers / slowed

    def band(self, workers: float) -> tuple[float, float] | None:
        """Where the true curve lies at that many, with 95 %; None where the points cannot say.

        Only as far as the law holds: that the machine's 17th core is like its 16th, no fit knows.
        """
        if not self.covariance:
            return None
        row = _terms(workers)
        variance = sum(
            a * b * self.covariance[i][j] for i, a in enumerate(row) for j, b in enumerate(row)
        )
        half = noise.student(self.freedom) * math.sqrt(max(0.0, variance))
        middle = workers / self.at(workers)  # n / X
        high = workers / (middle - half) if middle > half else math.inf
        return workers / (middle + half), high

    @property
    def peak(self) -> float:
        """The number of workers beyond which more of them do less; inf: there is none."""
        if not self.crosstalk:
            return math.inf
        return math.sqrt(max(0.0, 1 - self.contention) / self.crosstalk)

    @property
    def limit(self) -> float:
        """What no number of workers exceeds, a second; inf where nothing bounds it."""
        if self.crosstalk:
            return self.at(max(1.0, self.peak))
        return self.rate / self.contention if self.contention else math.inf


def fit(points: Sequence[tuple[int, float]]) -> Model | None:
    """Of pairs of workers and throughput, one for each turn; None for fewer than two numbers.

    Neither σ nor κ is below zero: what they stand for costs something or nothing. Two numbers of
    workers say nothing of κ, which is then left out.
    """
    points = [(n, x) for n, x in points if n > 0 and x > 0]
    numbers = {n for n, _ in points}
    if len(numbers) < 2:
        return None
    rows = [[x / n * term for term in _terms(n)] for n, x in points]
    best: tuple[float, Row, tuple[int, ...]] | None = None
    for used in _models(3 if len(numbers) > 2 else 2):
        found = _least_squares(rows, used)
        if found is None or min(found) < 0:
            continue
        squares = sum(
            (1 - sum(a * b for a, b in zip(row, found, strict=True))) ** 2 for row in rows
        )
        # More terms fit at least as well; those that gain nothing are left out.
        if best is None or squares < best[0] * (1 - 1e-9) - 1e-18:
            best = (squares, found, used)
    if best is None:
        return None
    squares, (one, queueing, telling), used = best
    freedom = len(points) - len(used)
    return Model(
        rate=1 / one,
        contention=queueing / one,
        crosstalk=telling / one,
        error=math.sqrt(squares / freedom) if freedom else None,
        measured=max(numbers),
        freedom=freedom,
        covariance=_covariance(rows, used, squares / freedom) if freedom else (),
    )


def _terms(workers: float) -> Row:
    """What 1/λ, σ/λ and κ/λ are multiplied by to make n / X."""
    return (1.0, workers - 1, workers * (workers - 1))


def _models(terms: int) -> list[tuple[int, ...]]:
    """Which terms to try: λ always, the fewest first."""
    optional = range(1, terms)
    return [
        (0, *chosen) for count in range(terms) for chosen in itertools.combinations(optional, count)
    ]


def _least_squares(rows: Sequence[Sequence[float]], used: tuple[int, ...]) -> Row | None:
    """What makes each row, with these terms alone, nearest to 1; None where nothing does."""
    inverse = _inverse(_products(rows, used))
    if inverse is None:
        return None
    sums = [sum(row[i] for row in rows) for i in used]
    found = [0.0, 0.0, 0.0]
    for place, i in enumerate(used):
        found[i] = sum(a * b for a, b in zip(inverse[place], sums, strict=True))
    return tuple(found) if found[0] > 0 else None


def _covariance(
    rows: Sequence[Sequence[float]], used: tuple[int, ...], variance: float
) -> tuple[tuple[float, ...], ...]:
    inverse = _inverse(_products(rows, used)) or []
    full = [[0.0] * 3 for _ in range(3)]
    for (a, i), (b, j) in itertools.product(enumerate(used), repeat=2):
        full[i][j] = inverse[a][b] * variance
    return tuple(tuple(row) for row in full)


def _products(rows: Sequence[Sequence[float]], used: tuple[int, ...]) -> Matrix:
    return [[sum(row[i] * row[j] for row in rows) for j in used] for i in used]


def _inverse(matrix: Matrix) -> Matrix | None:
    """Gauss and Jordan, with pivots; None for one that has none."""
    size = len(matrix)
    scale = [math.sqrt(matrix[i][i]) for i in range(size)]
    if not all(scale):
        return None
    # Scaled to ones on the diagonal: terms differ by orders of magnitude.
    both = [
        [matrix[i][j] / scale[i] / scale[j] for j in range(size)]
        + [float(i == j) for j in range(size)]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(both[row][column]))
        if abs(both[pivot][column]) < SINGULAR:
            return None
        both[column], both[pivot] = both[pivot], both[column]
        both[column] = [value / both[column][column] for value in both[column]]
        for row in range(size):
            if row != column:
                factor = both[row][column]
                both[row] = [a - factor * b for a, b in zip(both[row], both[column], strict=True)]
    return [[both[i][size + j] / scale[i] / scale[j] for j in range(size)] for i in range(size)]
