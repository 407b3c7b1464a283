"""A replaced standard library, told from one that is only wrapped."""

import functools
import select
import socket
from collections.abc import Callable

from clusterd.zygote import inventory, patched
from clusterd.zygote.patched import Replaced


def stand_in(module: str) -> Callable[[], None]:
    """Return a function as a package would put it in place of a standard one."""

    def function() -> None: ...

    function.__module__ = module
    return function


def test_an_untouched_library_is_fine() -> None:
    assert patched.replaced(patched.originals()) == []


def test_what_gevent_replaced_is_named_and_refused() -> None:
    before = patched.originals()
    now = {**before, "time.sleep": stand_in("gevent.hub"), "os.fork": stand_in("gevent.os")}
    found = patched.compared(before, now)
    assert found == [Replaced(("time.sleep", "os.fork"), "gevent")]
    stock = inventory.judge(found)
    assert stock.verdict is inventory.Verdict.REFUSE
    assert stock.left[0].what == (
        "gevent replaced parts of the standard library (time.sleep, os.fork)"
    )


def test_threads_locks_and_select_must_be_nobody_elses_either() -> None:
    before = patched.originals()
    now = {**before, "select.select": stand_in("odd.loop"), "time.sleep": stand_in("odd.clock")}
    assert patched.compared(before, now) == [Replaced(("select.select",), "odd")]


def test_wrappers_and_derived_classes_are_fine() -> None:
    """Tracing libraries wrap os.fork and threads; PySocks derives its socket."""

    class Derived(socket.socket):
        pass

    before = patched.originals()
    wrapped = functools.wraps(select.select)(lambda *args: select.select(*args))
    now = {**before, "socket.socket": Derived, "select.select": wrapped}
    assert patched.compared(before, now) == []
