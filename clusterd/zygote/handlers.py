"""Find the signal handlers of the application that workers replace with their own."""

import functools
import os
import signal
from collections.abc import Sequence

from clusterd.kernel.signals import c_handler

# What a worker handles itself (`worker.main`). A handler for SIGUSR1 stays.
REPLACED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2)
NONE = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
Handlers = dict[signal.Signals, tuple[object, int]]


def read() -> Handlers:
    """Return the handler of each signal, and the address of the function in C that is called."""
    return {number: (signal.getsignal(number), c_handler(number)) for number in REPLACED}


def replaced(earlier: Handlers, roots: Sequence[str]) -> str:
    """Name what was installed since then: `SIGTERM (on_term, shop/app.py:12)`; '' for nothing.

    `roots` are the directories that files are named from. Signals that were set to be ignored, or
    to their defaults, are not named: no code of the application is lost.
    """
    found = []
    for number, (handler, address) in read().items():
        before, address_before = earlier[number]
        if handler is not before and handler not in NONE and handler is not None:
            found.append(f"{number.name} ({_named(handler, roots)})")
        elif handler is before and address not in (address_before, *_PLAIN):
            found.append(f"{number.name} (a handler in C, as of faulthandler.register)")
    return ", ".join(found)


_PLAIN = (int(signal.SIG_DFL), int(signal.SIG_IGN))


def _named(handler: object, roots: Sequence[str]) -> str:
    """Return a handler's name and where it is defined, as far as that is known."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    name = getattr(handler, "__qualname__", type(handler).__qualname__)
    function = getattr(handler, "__func__", handler)
    code = getattr(function, "__code__", None)
    if code is None:
        return str(name)
    file = code.co_filename
    for root in roots:
        file = file.removeprefix(os.path.join(os.path.abspath(root), ""))
    return f"{name}, {file}:{code.co_firstlineno}"
