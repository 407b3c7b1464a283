"""Find identities that an import made, and that would be the same in all forked workers.

Such an identity tells the process that it belongs to from others on a message bus or in a store:
two workers with the same one take each other's messages, or drop them as their own.
"""

import gc
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterd.kernel.fork import try_fork
from clusterd.zygote.draws import UUIDS, Draw
from clusterd.zygote.image import Identity, SharedDraws

CHANGED = 1  # exit status of a trial fork in which a library had changed its identities


@dataclass(frozen=True, slots=True)
class Known:
    """A class of a library whose instances have an identity that is meant for one process.

    `identity` returns it, or something false where this instance has none.
    """

    module: str
    name: str  # of the class, in that module
    what: str  # what its identity is called in messages
    identity: Callable[[Any], object]
    only_drawn: bool = False  # one that was configured is the same on purpose


def _host_id(manager: Any) -> object:
    """Return a Socket.IO manager's identity. A manager that only writes hears no messages."""
    return not manager.write_only and manager.host_id


def _oid(app: Any) -> object:
    """Return the identity of a Celery application that was asked for already: it is kept then."""
    return vars(app).get("oid") or getattr(vars(app).get("_local"), "oid", None)


def _telemetry(module: str, name: str, resource: Callable[[Any], Any]) -> Known:
    return Known(
        f"opentelemetry.sdk.{module}",
        name,
        "OpenTelemetry's service.instance.id",
        lambda provider: resource(provider).attributes.get("service.instance.id"),
        only_drawn=True,
    )


# Each row has a test with the real library in tests/field/test_identity.py.
KNOWN = (
    # python-socketio, and so Flask-SocketIO's message_queue: drops messages with its own host_id.
    Known("socketio.pubsub_manager", "PubSubManager", "a Socket.IO manager", _host_id),
    Known("socketio.async_pubsub_manager", "AsyncPubSubManager", "a Socket.IO manager", _host_id),
    # Part of each channel's name: a worker takes the messages for a sibling's consumers.
    Known(
        "channels_redis.core",
        "RedisChannelLayer",
        "a channel layer of channels_redis",
        lambda layer: layer.client_prefix,
    ),
    # The queue of task results (rpc://) is named by it.
    Known("celery.app.base", "Celery", "a Celery application's oid", _oid),
    # Newer versions of the SDK make it anew after a fork, which the trial fork finds out.
    _telemetry("trace", "TracerProvider", lambda provider: provider.resource),
    _telemetry("_logs._internal", "LoggerProvider", lambda provider: provider.resource),
    _telemetry(
        "metrics._internal", "MeterProvider", lambda provider: provider._sdk_config.resource
    ),
)


def find(draws: Sequence[Draw]) -> tuple[Identity | SharedDraws, ...]:
    """Return what the import made: `Identity` objects and, at most once, `SharedDraws`.

    Call it before the garbage collector's view is frozen: frozen objects cannot be listed.
    """
    shared = [draw for draw in draws if not draw.own or draw.function not in UUIDS]
    found: list[Identity | SharedDraws] = [
        Identity(f"a value of uuid.{draw.function}()", draw.where)
        for draw in draws
        if draw not in shared
    ]
    origins = {draw.value: draw.where for draw in draws if draw.value}
    known = [
        (row, value) for row, value in _known() if not row.only_drawn or _is_drawn(value, origins)
    ]
    if known and not _changed_by_fork(known):
        found += [Identity(row.what, _origin(value, origins)) for row, value in known]
    found = list(dict.fromkeys(found))
    if shared:
        by = {f"{draw.by}: {draw.function}" for draw in shared}
        found.append(SharedDraws(tuple(sorted(by))))
    return tuple(found)


def _is_drawn(value: object, origins: Mapping[str, str]) -> bool:
    return any(drawn in str(value).replace("-", "") for drawn in origins)


def _origin(value: object, origins: Mapping[str, str]) -> str:
    """Return the line where an identity was drawn, as far as it is a UUID."""
    text = str(value).replace("-", "")
    return next((where for drawn, where in origins.items() if drawn in text), "")


def _known(table: Iterable[Known] = KNOWN) -> list[tuple[Known, object]]:
    """Return the identities of all living instances of known classes.

    Nothing is listed where none of the libraries is loaded.
    """
    classes: dict[type, Known] = {}
    for row in table:
        base = getattr(sys.modules.get(row.module), row.name, None)
        if isinstance(base, type):
            for each in _with_subclasses(base):
                classes.setdefault(each, row)
    if not classes:
        return []
    known = []
    for each in [each for each in gc.get_objects() if type(each) in classes]:
        row_of = classes[type(each)]
        try:
            value = row_of.identity(each)
        except Exception:  # another version of the library, or an instance half made
            continue
        if value:
            known.append((row_of, value))
    return known


def _with_subclasses(base: type) -> list[type]:
    found = [base]
    for each in found:
        found += filter(lambda sub: sub not in found, type.__subclasses__(each))
    return found


def _changed_by_fork(known: list[tuple[Known, object]]) -> bool:
    """Fork once to see whether the libraries give a child identities of its own."""
    before = {value for _, value in known}

    def look() -> int:
        return CHANGED if before.isdisjoint(value for _, value in _known()) else 0

    return try_fork(look) == CHANGED
