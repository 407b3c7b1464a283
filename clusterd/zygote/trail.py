"""Find where in the application things came to be, while it is imported.

On Python 3.12 and later `sys.monitoring` reports each line of the application's own files, and
nothing of libraries: measured, an import takes as long as without it, and nothing stays behind. On
3.11 the only such report is `sys.settrace`, with which an import takes 1.75 times as long; there
the application's import statements are the places that are known, and the text says "after the
import in line 7".
"""

import builtins
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import CodeType
from typing import Any

from clusterd.kernel import resources
from clusterd.kernel.resources import Child, Descriptor, Thread

BUDGET = 0.2  # seconds that all looks together may take; an import may run through many lines
# Seconds that the interpreter takes to report a line, for each byte of the code object that it is
# in (measured on 3.13: 0.26 ms a line of a module with 20,000, as generated ones have).
LINE = 1.5e-9
LIBRARIES = ("/site-packages/", "/dist-packages/")  # an environment may lie below app_dir
_TOOLS = (4, 3)  # sys.monitoring's ids that no kind of tool has by agreement
Place = tuple[str, int, bool]  # file, line, and whether it is just that line or one below


class Trail:
    """Remember the place in the application at which each new thing was first seen.

    A context manager around the import. `roots` are the directories of the application's files.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots = tuple(os.path.join(os.path.abspath(root), "") for root in roots)
        self._made: dict[object, Place] = {}
        self._place: Place | None = None
        self._known: dict[str, str] = {}
        self._names: set[str] = set()
        self._threads: set[str] = set()
        self._has_children = False
        self._left = BUDGET
        self._thread = threading.get_ident()
        self._ours: dict[str, bool] = {}
        self._tool = -1
        self._codes: dict[int, tuple[CodeType, float]] = {}  # those whose lines are reported
        self._original: Any = None

    def __enter__(self) -> "Trail":
        if self.roots:
            self._look()
            if sys.version_info >= (3, 12):
                self._monitor()
            else:
                self._hook()
        return self

    def __exit__(self, *_: object) -> None:
        if self.roots:
            self._stop()
            self._look()

    def where(self, thing: object) -> str:
        """Return `shop/db.py:12` for a thing that came to be there, or ''."""
        place = None
        if isinstance(thing, Thread):
            place = self._made.get(("thread", str(thing.number)))
        elif isinstance(thing, Descriptor):
            place = self._made.get((str(thing.number), thing.target))
        elif isinstance(thing, Child):
            place = self._made.get(("child", thing.pid))
        if place is None or not place[0]:
            return ""
        file, line, exact = place
        for root in self.roots:
            file = file.removeprefix(root)
        return f"{file}:{line}" if exact else f"{file}, after the import in line {line}"

    def _is_ours(self, file: str) -> bool:
        known = self._ours.get(file)
        if known is None:
            root = next((root for root in self.roots if file.startswith(root)), None)
            known = root is not None and not any(
                name in file[len(root) - 1 :] for name in LIBRARIES
            )
            self._ours[file] = known
        return known

    def _reach(self, place: Place) -> None:
        """Look for what is new since the last place, which is where it was made."""
        if threading.get_ident() != self._thread:
            return  # the application's own threads go through its lines, too
        self._look()
        self._place = place

    def _look(self) -> None:
        if self._left <= 0:
            return
        begun = time.perf_counter()
        names = set(os.listdir("/proc/self/fd"))
        running = set(os.listdir("/proc/self/task"))
        children = resources.has_children()
        if names != self._names or running != self._threads or children != self._has_children:
            self._note(names, running, children)
        self._left -= time.perf_counter() - begun

    def _note(self, names: set[str], running: set[str], children: bool) -> None:
        now: dict[object, object] = {("thread", number): "" for number in running}
        for name in names:  # one of them was the listing's own descriptor
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
            now[(name, target)] = ""
        if children:
            now.update({("child", child.pid): "" for child in resources.children()})
        if self._place is not None:
            for key in now:
                self._made.setdefault(key, self._place)
        else:  # it was there before the first of the application's lines
            self._made.update(dict.fromkeys(now, ("", 0, True)))
        self._names, self._threads, self._has_children = names, running, children

    def _monitor(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
        free = [tool for tool in _TOOLS if monitoring.get_tool(tool) is None]
        if not free:
            return
        self._tool = tool = free[0]
        events = monitoring.events

        def start(code: CodeType, _: int) -> object:
            if self._is_ours(code.co_filename) and self._left > 0:
                self._codes[id(code)] = (code, len(code.co_code) * LINE)
                monitoring.set_local_events(tool, code, events.LINE)
            return monitoring.DISABLE

        def line(code: CodeType, number: int) -> None:
            self._reach((code.co_filename, number, True))
            self._left -= self._codes[id(code)][1] if id(code) in self._codes else 0.0
            if self._left <= 0:
                self._report_nothing(monitoring)

        monitoring.use_tool_id(tool, "clusterd")
        monitoring.register_callback(tool, events.PY_START, start)
        monitoring.register_callback(tool, events.LINE, line)
        monitoring.set_events(tool, events.PY_START)

    def _report_nothing(self, monitoring: Any) -> None:
        """End all reports. To disable lines one by one takes as long as to report them."""
        monitoring.set_events(self._tool, 0)
        # A copy: a thread of the application may still report a function that it begins with.
        for code, _ in list(self._codes.values()):
            monitoring.set_local_events(self._tool, code, 0)
        self._codes.clear()

    def _hook(self) -> None:
        original: Any = builtins.__import__
        self._original = original

        def hooked(
            name: str,
            globals: Mapping[str, object] | None = None,
            locals: Mapping[str, object] | None = None,
            fromlist: Sequence[str] | None = (),
            level: int = 0,
        ) -> Any:
            frame = sys._getframe(1)
            file, number = frame.f_code.co_filename, frame.f_lineno
            if self._original is None or not self._is_ours(file):
                return original(name, globals, locals, fromlist, level)
            self._reach((file, number, True))
            try:
                return original(name, globals, locals, fromlist, level)
            finally:
                self._reach((file, number, False))

        # warnings' stacklevel and tracebacks pass over this frame, as over the machinery's own.
        hooked.__code__ = hooked.__code__.replace(co_filename="<frozen importlib._bootstrap>")
        builtins.__import__ = hooked

    def _stop(self) -> None:
        if self._tool >= 0:
            monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
            self._report_nothing(monitoring)
            for event in (monitoring.events.PY_START, monitoring.events.LINE):
                monitoring.register_callback(self._tool, event, None)
            monitoring.free_tool_id(self._tool)
        elif self._original is not None:
            original, self._original = self._original, None
            # Where the application has put a hook of its own on top, ours only passes calls on.
            if getattr(builtins.__import__, "__qualname__", "").startswith("Trail."):
                builtins.__import__ = original


def roots(app: str, app_dir: str) -> list[str]:
    """Return the directories of an application's own files.

    They are `app_dir` and, for an application that is installed elsewhere, its package's.
    """
    found = [os.path.abspath(app_dir)]
    package = app.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        found.append(place)
    return found
