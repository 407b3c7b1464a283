"""Observe which UUIDs and secrets an import draws, and for which code.

A UUID that the application draws while it is imported is often meant as the identity of one
process (a node id, a consumer name), and workers forked from the image would share it. A library
that draws one while it is imported mostly makes an id of its own kind: those with an identity per
process are known by name (`zygote.identities`).
"""

import functools
import uuid
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Self

from clusterd.core.own_code import OwnCode, is_installed
from clusterd.kernel.observed import Observed

UUIDS = ("uuid1", "uuid4", "uuid6", "uuid7")  # 6 and 7 from Python 3.14 on
SECRETS = ("token_bytes",)  # token_hex and token_urlsafe call it
MOST = 1000  # draws to keep; beyond them only the first of the application's own

# Libraries whose classes draw for the code that makes an instance, as `default_factory=uuid4` does.
PASSED_ON = frozenset({"attr", "attrs", "dataclasses", "functools", "msgspec", "pydantic",
                       "pydantic_settings", "secrets", "sqlmodel"})  # fmt: skip


# Complete applications from PyPI that draw UUIDs while they are imported, none of which is the
# identity of a process: mlflow 3.17 the ids of its telemetry, Prefect 3.9 ids in schemas of which
# it keeps only the name. The package of any other application counts, installed or not:
# it may be a user's own, and nothing tells whether its ids may be the same in all workers.
HARMLESS = frozenset({"mlflow", "prefect"})


@dataclass(frozen=True, slots=True)
class Draw:
    """One call of `uuid.uuid4` or the like.

    `by` is the top-level package of the code that called it. `where` is the innermost line of the
    application on the way there (`shop/web.py:12`), or ''.
    """

    function: str
    by: str
    own: bool  # the application's own code called it
    where: str
    value: str  # what was drawn, in hexadecimal digits; '' for secrets


class Observer:
    """Record draws while used as a context manager. Leaves the functions as they were."""

    def __init__(self, app: str, directory: str, secrets: ModuleType | None = None) -> None:
        """`app`: the application as it is named in the settings; `directory`: its `app_dir`."""
        self.draws: list[Draw] = []
        self._own = OwnCode(app, directory)
        watched = [getattr(uuid, name, None) for name in UUIDS]
        watched += [getattr(secrets, name) for name in SECRETS if secrets is not None]
        self._observed = [
            Observed(function, functools.partial(self._note, function.__name__))
            for function in watched
            if function is not None
        ]

    def __enter__(self) -> Self:
        for each in self._observed:
            each.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._observed:
            each.__exit__()

    def _note(self, function: str, drawn: object, frame: FrameType | None) -> None:
        frame = _caller(frame)
        if frame is None:
            return
        own = self._is_own(frame)
        if len(self.draws) >= MOST and (not own or any(draw.own for draw in self.draws)):
            return
        by = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        while frame is not None and not self._is_own(frame):
            frame = frame.f_back
        where = f"{self._own.short(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else ""
        value = drawn.hex if isinstance(drawn, uuid.UUID) else ""
        self.draws.append(Draw(function, by, own, where, value))

    def _is_own(self, frame: FrameType) -> bool:
        module, file = str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename
        if module.partition(".")[0] in HARMLESS and is_installed(file):
            return False
        return self._own.has(module, file)


def _caller(frame: FrameType | None) -> FrameType | None:
    """Return the frame that the draw is for, from the one that called on.

    Generated code (a dataclass's `__init__`) has no file, and some libraries call a factory for the
    code that makes an instance.
    """
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        generated = frame.f_code.co_filename.startswith("<")
        if not generated and name.partition(".")[0] not in PASSED_ON:
            return frame
        frame = frame.f_back
    return None
