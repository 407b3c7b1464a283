"""A budget: how often a client may do what costs us and brings it nothing. Time is an argument."""


class Budget:
    """What may be spent: so much at once, and `rate` a second again."""

    __slots__ = ("_left", "_most", "_rate", "_then")

    def __init__(self, most: int, rate: float) -> None:
        self._left = self._most = float(most)
        self._rate = rate
        self._then = 0.0

    def spend(self, now: float, cost: float = 1.0) -> bool:
        """Whether there was enough."""
        self._left = min(self._most, self._left + (now - self._then) * self._rate) - cost
        self._then = now
        return self._left >= 0

    def earn(self, amount: float) -> None:
        self._left = min(self._most, self._left + amount)
