"""The watch over exit handlers, where these have closed what it listens to."""

import itertools
import logging
import os
from typing import Any, cast

from clusterd.worker.exit_handlers import Watch


class Closed:
    """A channel whose descriptor an exit handler has closed."""

    def __init__(self) -> None:
        self.asked = 0
        reading, writing = os.pipe()
        os.close(reading)
        os.close(writing)
        self._number = reading

    def fileno(self) -> int:
        return self._number

    def receive(self, block: bool = True) -> None:
        self.asked += 1
        raise OSError(9, "Bad file descriptor")


def test_a_channel_that_an_exit_handler_has_closed_is_asked_once() -> None:
    """Else the watch would use up a core until its time is over."""
    channel, left = Closed(), list[int]()
    times = itertools.chain([0.0] * 4, itertools.repeat(99.0))
    watch = Watch(
        0.001, cast(Any, channel), 3, logging.NullHandler(), left.append, lambda: next(times)
    )
    watch.run()
    assert channel.asked == 1
    assert left == [3]
