"""Find the application: `module:attribute`, `module` for `module:app`, `module:make()`; and see
which interface it has.

Whatever goes wrong is the application's fault, and its traceback is cut to its own frames: ours
and the import machinery's say nothing to whoever has to mend it.
"""

import functools
import importlib
import inspect
import os
import pwd
import sys
import traceback
from collections.abc import Iterable, Sequence
from types import ModuleType, TracebackType
from typing import NamedTuple

from clusterd.app import lazy
from clusterd.core.errors import AppError
from clusterd.core.own_code import OwnCode

LIMIT = 32 * 1024  # bytes of traceback: it travels in one packet
CUT = "…\n"
MACHINERY = ("<frozen importlib", "<frozen runpy", os.path.dirname(importlib.__file__) + os.sep)
OURS = (__file__, lazy.__file__)
IGNORED = (KeyboardInterrupt, GeneratorExit)


class LoadError(AppError):
    """The application could not be had. `traceback` shows its own frames, or is ''."""

    def __init__(self, message: str, remedy: str = "", traceback: str = "") -> None:
        super().__init__(message, remedy)
        self.traceback = traceback


def load(
    app: str,
    app_dir: str = ".",
    factory: bool = False,
    interface: str = "asgi",
    preload_modules: Sequence[str] = (),
) -> object:
    """Import the application, call it if it is a factory, and return it.

    Then import what it would import later: `preload_modules`, and what its own modules import
    lazily. Raises LoadError, also where `interface` is auto and cannot be told.
    """
    module_name, attribute, called = split(app)
    directory = os.path.abspath(app_dir)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    with lazy.LazyImports(OwnCode(app, app_dir)) as lazily:
        found = _attribute(_module(module_name, app, directory), module_name, attribute)
        if factory or called:
            found = _call(found, app)
        for name in preload_modules:
            _module(name, "preload_modules", directory)
        lazily.load(_lazy)
    if not callable(found):
        raise LoadError(
            f"{app}: {attribute} is a {type(found).__name__}, which is not callable",
            "An ASGI application takes scope, receive and send; a WSGI application takes environ "
            "and start_response.",
        )
    interface_of(found, interface)
    return found


def interface_of(app: object, wanted: str = "auto") -> str:
    """`asgi` or `wsgi`: what was wanted, or with `auto` what the application can be called with.

    ASGI 3 is a coroutine function of three arguments, WSGI (PEP 3333) a plain callable of two.
    Raises LoadError for what fits neither, or both.
    """
    if wanted != "auto":
        return wanted
    called = app
    while isinstance(called, functools.partial):
        called = called.func
    is_async = _is_async(called)
    try:
        signature = inspect.signature(app)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # made in C, or with a __signature__ that is none
        raise _unclear(app, "it does not tell which arguments it takes") from None
    takes = [count for count in range(4) if _takes(signature, count)]
    if 3 in takes and (is_async or 2 not in takes):
        return "asgi"
    if 2 in takes and 3 not in takes and not is_async:
        return "wsgi"
    raise _misfit(app, takes, is_async)


def _is_async(called: object) -> bool:
    """Whether a call of it is to be awaited: also of a class, as Starlette's endpoints are."""
    if inspect.isclass(called):
        return hasattr(called, "__await__")
    call = called if inspect.isroutine(called) else type(called).__call__
    return inspect.iscoroutinefunction(call)


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _misfit(app: object, takes: list[int], is_async: bool) -> LoadError:
    if takes == [1] and not is_async:
        return LoadError(
            f"{_kind(app)} takes one argument, as ASGI 2 applications did",
            "clusterd speaks ASGI 3: wrap it in asgiref.compatibility.guarantee_single_callable, "
            "or mend it. If it returns the application, it is a factory that wants no argument.",
        )
    if takes == [0]:
        return LoadError(
            f"{_kind(app)} takes no arguments, so it is no application",
            "If it returns the application, say --factory.",
        )
    if 2 in takes and 3 in takes:
        return _unclear(app, "it can be called both as ASGI and as WSGI")
    asynchronous = "is async, but " if is_async else ""
    return _unclear(app, f"it {asynchronous}does not take the arguments of either")


def _unclear(app: object, why: str) -> LoadError:
    return LoadError(
        f"{_kind(app)} may be an ASGI or a WSGI application: {why}",
        "Say which with --interface asgi or --interface wsgi.",
    )


def _kind(app: object) -> str:
    return getattr(app, "__qualname__", None) or f"the {type(app).__name__}"


def split(app: str) -> tuple[str, str, bool]:
    """`pkg.web:make()` → ("pkg.web", "make", True); raises LoadError for what cannot be a name."""
    module, colon, attribute = app.partition(":")
    called = attribute.endswith("()")
    attribute = attribute.removesuffix("()") if colon else "app"
    names = module.split(".") + attribute.split(".")
    if not all(name.isidentifier() for name in names):
        raise LoadError(
            f"{app!r} does not name an application",
            "Write module:attribute, for example shop.web:app.",
        )
    return module, attribute, called


def _module(name: str, app: str, directory: str) -> object:
    try:
        return importlib.import_module(name)
    except IGNORED:
        raise
    except ModuleNotFoundError as error:
        # Missing is what was asked for (or a package above it), not what it imports itself.
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"there is no module {error.name} to import {app} from{_hidden()}",
                _remedy_of_hidden()
                or f"Modules are searched in {directory} and in this interpreter's own places; "
                "see --app-dir.",
            ) from None
        raise _failed(f"importing {name} failed", error) from error
    except BaseException as error:  # also SystemExit: a module may call sys.exit()
        raise _failed(f"importing {name} failed", error) from error


class Closed(NamedTuple):
    """A directory of the search path that we may not look into."""

    path: str
    reason: str  # goes on with the name of a user


def closed_to_us(paths: Iterable[str]) -> Closed | None:
    """Return the first directory of a search path that this user may not look into.

    The import machinery passes over such a directory as if it were empty.
    """
    for path in map(os.path.abspath, paths):
        for part in _ways(path):
            if not os.path.isdir(part):
                break  # nothing is there, or a zip file
            if not os.access(part, os.X_OK, effective_ids=True):
                return Closed(path, f"{part} may not be entered by")
        else:
            if not os.access(path, os.R_OK, effective_ids=True):
                return Closed(path, f"{path} may not be listed by")
    return None


def _ways(path: str) -> list[str]:
    """Return the directories on the way to a path, from the root to itself."""
    parts = [path]
    while (above := os.path.dirname(parts[0])) != parts[0]:
        parts.insert(0, above)
    return parts


def _hidden() -> str:
    """Return what to add to "there is no such module" where it may be hidden from this user."""
    closed = closed_to_us(sys.path)
    return f": {closed.reason} {user_name()}" if closed else ""


def _remedy_of_hidden() -> str:
    closed = closed_to_us(sys.path)
    if closed is None:
        return ""
    return (
        f"Modules are searched in {closed.path}, too: let {user_name()} enter it, keep the "
        "application and its packages in another place, or name another --user."
    )


def user_name() -> str:
    """Return the name of the user that this process is."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def _attribute(module: object, name: str, attribute: str) -> object:
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            if error.obj is not found or error.name != part:  # raised by the app's own code
                raise _failed(f"reading {name}:{attribute} failed", error) from error
            raise LoadError(
                f"module {name} has no attribute {attribute}",
                f"Name what it calls its application, as {name}:NAME.",
            ) from None
        except IGNORED:
            raise
        except BaseException as error:
            raise _failed(f"reading {name}:{attribute} failed", error) from error
    return found


def _lazy(module: ModuleType, name: str) -> object:
    """Load what a module imports lazily under this name."""
    try:
        return lazy.read(module, name)
    except (*IGNORED, ModuleNotFoundError):
        raise
    except BaseException as error:
        raise _failed(f"the lazy import of {name} in {module.__name__} failed", error) from error


def _call(factory: object, app: str) -> object:
    if not callable(factory):
        raise LoadError(f"{app} is not a factory: a {type(factory).__name__} cannot be called")
    try:
        return factory()
    except IGNORED:
        raise
    except BaseException as error:
        raise _failed(f"the factory {app} failed", error) from error


def _failed(what: str, error: BaseException) -> LoadError:
    reason = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    remedy = ""
    if isinstance(error, ModuleNotFoundError):
        reason, remedy = reason + _hidden(), _remedy_of_hidden()
    return LoadError(f"{what}: {reason}", remedy, own_traceback(error))


def own_traceback(error: BaseException) -> str:
    """The traceback without our frames and the import machinery's, at most `LIMIT` bytes."""
    told = traceback.TracebackException(type(error), error, _own(error.__traceback__))
    inner: traceback.TracebackException | None = told
    seen: set[int] = set()
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        inner.stack = traceback.StackSummary.from_list(
            [frame for frame in inner.stack if not _is_machinery(frame.filename)]
        )
        inner = inner.__cause__ or inner.__context__
    data = "".join(told.format()).encode("utf-8", "backslashreplace")
    if len(data) <= LIMIT:
        return data.decode()
    # The end names the error; the beginning is the way there.
    return CUT + data[-(LIMIT - 8) :].decode("utf-8", "ignore")


def _own(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not ours."""
    while trace is not None and trace.tb_frame.f_code.co_filename in OURS:
        trace = trace.tb_next
    return trace


def _is_machinery(filename: str) -> bool:
    return filename in OURS or filename.startswith(MACHINERY)
