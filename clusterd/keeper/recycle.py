"""Recycling of programs: by age, and by the memory of the program and all that it has started.

As with workers the replacement comes first; a singleton's stands by until the old one has ended.
What a program serves nobody counts, so there is no limit on requests.
"""

import random
from collections.abc import Callable

from clusterd.config.running import VitalsSettings
from clusterd.core.log import get_logger
from clusterd.core.recycling import MEMORY_EVERY, Limits, Scales, verdict
from clusterd.ipc.scoreboard import Cell, Stage
from clusterd.keeper.turns import Turns
from clusterd.kernel import usage
from clusterd.kernel.faulty import pace

logger = get_logger("clusterd.keeper")

AGAIN = 1.0  # s until one that is to go and is not even ready is looked at again


class Recycling:
    """Of one program, from its start on. `ask` is called at most once, with the reason."""

    def __init__(self, vitals: VitalsSettings, turns: Turns, row: memoryview) -> None:
        self.limits = Limits.drawn(0, 0, vitals.max_age, vitals.max_memory, random.random)
        self._turns = turns
        self._row = row
        self._scales = Scales(vitals.max_memory)
        self._ask: Callable[[str], None] | None = None

    def begin(self, ask: Callable[[str], None]) -> None:
        """The program has been started."""
        self._ask = ask
        if self.limits.age:
            self._turns.at("max_age", self.limits.age, lambda: self._judge(self.limits.age))
        self._look_again()

    def _look_again(self) -> None:
        if self.limits.memory and self._ask is not None:
            self._turns.at("max_memory", MEMORY_EVERY / pace(), self._weigh)

    def _weigh(self) -> None:
        try:
            size = usage.tree(self._row[Cell.COMMAND]).uss
        except OSError as error:
            logger.warning("max_memory is without effect: memory cannot be read: %s", error)
            return
        self._row[Cell.MEMORY] = size
        self._scales.weigh(size)
        self._judge(0.0)
        self._look_again()

    def _judge(self, age: float) -> None:
        why = verdict(self.limits, 0, age, self._scales)
        if not why or self._ask is None:
            return
        if self._row[Cell.PHASE] == Stage.BOOTING:  # nobody can be replaced before it is ready
            self._turns.at("recycle", AGAIN, lambda: self._judge(age))
        else:
            ask, self._ask = self._ask, None
            ask(why)
