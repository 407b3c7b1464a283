"""One run of the benchmarks: its environment, its selection of servers, and its voice."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.environment import Environment
from benchmarks.outcome import Outcome
from benchmarks.servers import Running, Server


@dataclass(frozen=True, slots=True)
class Session:
    """What every scenario is given."""

    environment: Environment
    only: tuple[str, ...]  # names of servers; empty means all
    rounds: int | None
    smoke: bool

    def among(self, *wanted: Server) -> list[Server]:
        """Those of the wanted servers that are asked for and can run here.

        Who asks for a server means its variants too.
        """
        return [
            server
            for server in wanted
            if (not server.needs or server.needs in self.environment.versions)
            and (not self.only or server.name in self.only or server.kind in self.only)
        ]

    def times(self, usual: int, tiny: int = 1) -> int:
        """How many rounds: as asked, else the scenario's usual number; few in a smoke run."""
        return tiny if self.smoke else self.rounds or usual

    def start(
        self,
        server: Server,
        app: str = "plain",
        workers: int = 4,
        env: Mapping[str, str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Running:
        """Start a server; use as a context manager. `more`: further words of its command."""
        return Running(server, self.environment.python, app, workers, env, more)

    def say(self, text: str) -> None:
        """Progress, for whoever watches."""
        print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def forgiving(self, server: Server, outcome: Outcome) -> Iterator[None]:
        """A peer that breaks is written down and the run goes on; clusterd's failure is ours."""
        try:
            yield
        except (OSError, ValueError) as error:
            if server.is_ours:
                raise
            said = " ".join([str(error), *getattr(error, "__notes__", [])])
            outcome.notes.append(f"{server.name} failed: {type(error).__name__}: {said[:500]}")
            self.say(f"  {outcome.notes[-1]}")
