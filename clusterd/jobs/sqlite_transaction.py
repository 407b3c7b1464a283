"""One transaction on the tables of a job store: what all operations need."""

from collections import Counter

from clusterd.jobs.records import Attempt
from clusterd.jobs.sqlite_database import Connection
from clusterd.jobs.states import State


class Transaction:
    """A connection inside BEGIN IMMEDIATE, the time, and what is to be done at the end."""

    def __init__(self, connection: Connection, now: int) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.now = now
        self.has_work = False  # ring the bell of workers and schedulers
        self.has_finished = False  # ring the bell of those that wait for results
        self._moved: Counter[tuple[str, int]] = Counter()
        self._places: dict[str, int] = {}

    def moved(self, queue: str, before: State | None, after: State | None, jobs: int = 1) -> None:
        """Count jobs of a queue that changed their state; None: they were not there, or are not."""
        if before is not None:
            self._moved[queue, before] -= jobs
        if after is not None:
            self._moved[queue, after] += jobs
            if after in (State.AVAILABLE, State.SCHEDULED):
                self.has_work = True
            elif after >= State.COMPLETED:
                self.has_finished = True

    def count(self) -> None:
        """Write how many jobs each queue has in each state by now, and its last place."""
        for (queue, state), jobs in self._moved.items():
            if jobs:
                self.execute(
                    "INSERT INTO tally VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
                    " SET jobs = jobs + excluded.jobs",
                    (queue, state, jobs),
                )
        for queue, place in self._places.items():
            self.execute("REPLACE INTO tally VALUES (?, -1, ?)", (queue, place))

    def place(self, queue: str) -> int:
        """Return the next place of a queue, in the order in which its jobs become available."""
        if queue not in self._places:
            row = self.execute(
                "SELECT jobs FROM tally WHERE queue = ? AND state = -1", (queue,)
            ).fetchone()
            self._places[queue] = row[0] if row else 0
        self._places[queue] += 1
        return self._places[queue]

    def record(self, key: int, event: Attempt) -> None:
        """Add a line to the history of the job in this row."""
        self.execute(
            "INSERT INTO event VALUES"
            " (?, (SELECT coalesce(max(number), 0) + 1 FROM event WHERE job = ?),"
            " ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                key,
                event.at,
                event.event,
                event.owner,
                event.group,
                event.slot,
                event.generation,
                event.attempt,
                event.started,
                event.text,
            ),
        )


def marks(values: int) -> str:
    """Return so many placeholders for values."""
    return ", ".join("?" * values)
