"""Whether this process is importing the application now, so that others can refuse what must not
happen meanwhile: what an import opens, every worker that is forked from it would share."""

import contextlib
from collections.abc import Iterator

_state = {"loading": 0}


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Note that the application is imported in this block."""
    _state["loading"] += 1
    try:
        yield
    finally:
        _state["loading"] -= 1


def is_loading() -> bool:
    """Return whether the application is being imported."""
    return _state["loading"] > 0
