"""Messages that outlive their WebSocket: its client is gone, and the application will receive them.

They are held for as long as the application takes no more, which may be for ever. So the memory
budget counts them like those of an open WebSocket, and may have them given up.
"""

from clusterd.app.websocket import Session
from clusterd.worker.memory_budget import MemoryBudget


class Leftover:
    """What is left of one WebSocket, as `memory_budget.Holder`."""

    __slots__ = ("_memory", "_session", "held")

    is_closing = False  # what is held does not go by itself

    def __init__(self, session: Session, memory: MemoryBudget) -> None:
        self._session = session
        self._memory = memory
        self.held = 0

    def count(self) -> None:
        """Have it counted until the application ends or has received the messages."""
        task = self._session.task
        if task is not None and not task.done():
            task.add_done_callback(lambda _: self._memory.forget(self))
            self._memory.count(self)

    def measure(self) -> int:
        """Return the bytes of the messages."""
        return self._session.waiting

    def count_moved(self) -> int:
        """Return 0: what is held tells how far the application is."""
        return 0

    @property
    def awaits_client(self) -> bool:
        """Return True: there is nobody whom it would spare to keep them while memory is short."""
        return True

    def hold_off(self) -> None:
        """Nothing is read."""

    def go_on(self) -> None:
        """Nothing is read."""

    def shed(self) -> None:
        """Throw the messages away; the application is told of the disconnect alone."""
        self._session.drop()
