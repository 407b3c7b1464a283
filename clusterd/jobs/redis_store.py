"""The job store in Redis 7 or newer, or Valkey: for processes of many machines."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from clusterd.core.urls import without_password
from clusterd.jobs import redis_operator_scripts as operators
from clusterd.jobs import redis_scripts as scripts
from clusterd.jobs.records import (
    MOST_ERROR,
    MOST_LOG_LINE,
    MOST_LOG_LINES,
    Claim,
    Claimed,
    Filter,
    JobInfo,
    NewJob,
    Outcome,
    QueueStats,
    Released,
    Stored,
)
from clusterd.jobs.redis_bell import RedisBell
from clusterd.jobs.redis_connection import TIMEOUT, Argument, Connections, Script
from clusterd.jobs.redis_replies import as_claimed, as_info, as_stats
from clusterd.jobs.states import FINISHED, UNFINISHED, Event, State, sources
from clusterd.jobs.store import StoreError
from clusterd.jobs.text import start, tail
from clusterd.jobs.times import MICROSECONDS

SCHEMA = 1
OLDEST_SERVER = 7
CANDIDATES = 2000  # jobs that one script looks at, so that the server serves others in between
BATCH = 500  # jobs that one script returns or changes, for operators
_OWN_OPTIONS = ("namespace", "application")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_OPTIONS = (*_OWN_OPTIONS, "db", *_TLS_OPTIONS)
_DELETABLE = tuple(state for state in State if state is not State.RUNNING)

PREPARE, ENQUEUE, CLAIM, FINISH, REPORT, CANCEL_REQUESTED = map(
    Script,
    (
        scripts.PREPARE,
        scripts.ENQUEUE,
        scripts.CLAIM,
        scripts.FINISH,
        scripts.REPORT,
        scripts.CANCEL_REQUESTED,
    ),
)
RENEW, RELEASE, REAP, PROMOTE, PRUNE = map(
    Script, (scripts.RENEW, scripts.RELEASE, scripts.REAP, scripts.PROMOTE, scripts.PRUNE)
)
SELECT, SHOW, STATS, OPERATE, PAUSE = map(
    Script,
    (operators.SELECT, operators.SHOW, operators.STATS, operators.OPERATE, operators.PAUSE),
)


def create(url: str) -> "RedisStore":
    """Return the store of `redis://[USER:PASSWORD@]HOST[:PORT][/DB]?namespace=NAME`.

    `rediss:` is with TLS, `unix:` takes the path of a socket. Raises StoreError.
    """
    shown = without_password(url)
    try:
        parts = urlsplit(url)
        _ = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError as error:
        raise StoreError(f"{shown}: not a valid URL: {error}") from error
    for name in options:
        if name not in _OPTIONS:
            raise StoreError(
                f"{shown}: not a valid option: {name}, expected one of {', '.join(_OPTIONS)}"
            )
    if not (parts.path.strip("/") if parts.scheme == "unix" else parts.hostname):
        raise StoreError(f"{shown}: expected redis://HOST[:PORT][/DB] or unix:///path")
    namespace = options.get("namespace", "")
    if not namespace:
        raise StoreError(
            f"{shown} names no namespace, which keeps the jobs of applications apart",
            "Add ?namespace=NAME, the same for all processes of the application.",
        )
    if set("{}") & set(namespace):
        raise StoreError(f"{shown}: not a valid namespace: {namespace}, it has a brace")
    rest = urlencode({name: text for name, text in options.items() if name not in _OWN_OPTIONS})
    server = url.partition("?")[0] + (f"?{rest}" if rest else "")
    return RedisStore(server, shown, namespace, options.get("application", ""))


class RedisStore:
    """Keeps jobs in Redis. Methods are documented in `Store`."""

    is_networked = True

    def __init__(
        self,
        server: str,
        shown: str,
        namespace: str,
        application: str = "",
        clock: Callable[[], int] = lambda: 0,
        timeout: float = TIMEOUT,
    ) -> None:
        """`clock` is that of tests; 0 stands for the server's own."""
        self.url = shown
        self._namespace = namespace
        self._application = application
        self._clock = clock
        self._prefix = f"{{clusterd-jobs:{namespace}}}:"
        self._connections = Connections(server, shown, timeout)

    async def _run(self, script: Script, *arguments: Argument) -> Any:
        return await self._connections.run(
            script, f"{self._prefix}meta", (self._clock(), *arguments)
        )

    # --- life

    async def open(self) -> None:
        version = str((await self._connections.info()).get("redis_version", OLDEST_SERVER))
        if int(version.partition(".")[0]) < OLDEST_SERVER:
            raise StoreError(
                f"{self.url} is Redis {version}, expected {OLDEST_SERVER} or newer",
                "Upgrade the server.",
            )
        schema, application = await self._run(PREPARE, SCHEMA, self._application)
        if int(schema) > SCHEMA + 1:
            raise StoreError(
                f"the job store {self.url} was made by a newer clusterd: it has schema "
                f"{int(schema)}, expected {SCHEMA + 1} at most",
                "Upgrade clusterd here, too.",
            )
        if self._application and application.decode() not in ("", self._application):
            raise StoreError(
                f"the namespace {self._namespace} of {self.url} belongs to the application "
                f"{application.decode()!r}, not to {self._application!r}",
                "Name another namespace.",
            )

    async def close(self) -> None:
        await self._connections.close()

    async def concerns(self) -> list[str]:
        """Return what may lose jobs on this server, for the log."""
        info, found = await self._connections.info(), []
        if info.get("aof_enabled") == 0:
            found.append(
                f"{self.url} has appendonly no: jobs since its last snapshot are lost where it ends"
            )
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            found.append(
                f"{self.url} has maxmemory-policy {policy}, which deletes keys when memory is full "
                "and so may lose jobs: set it to noeviction"
            )
        return found

    def available_bell(self) -> RedisBell:
        return RedisBell(self._connections, f"{self._prefix}available")

    def finished_bell(self) -> RedisBell:
        return RedisBell(self._connections, f"{self._prefix}finished")

    # --- those who enqueue

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[Stored]:
        if not jobs:
            return []
        arguments = [value for job in jobs for value in _arguments_of_new(job)]
        stored = await self._run(ENQUEUE, *arguments)
        return [Stored(id.decode(), created == b"1") for id, created in stored]

    # --- workers

    async def claim(self, claim: Claim) -> list[Claimed]:
        if not claim.names or claim.limit <= 0:
            return []
        return [as_claimed(job) for job in await self._numbered(CLAIM, (), claim)]

    async def finish(
        self, outcomes: Sequence[Outcome], claim: Claim | None = None
    ) -> tuple[list[bool], list[Claimed]]:
        arguments: list[Argument] = [len(outcomes)]
        for each in outcomes:
            error = "" if each.event is Event.SUCCEEDED else tail(each.error, MOST_ERROR)
            arguments += (each.id, each.token, str(each.event), each.result, error, each.run_at)
        if claim is None or not claim.names or claim.limit <= 0:
            taken, claimed = await self._run(FINISH, *arguments)
        else:
            taken, claimed = await self._numbered(FINISH, arguments, claim)
        return [one == b"1" for one in taken], [as_claimed(job) for job in claimed]

    async def _numbered(self, script: Script, before: Sequence[Argument], claim: Claim) -> Any:
        """Run a script that claims. Its number tells the server which replies were lost on the
        way: it returns the jobs of those claims again, and refuses a claim that comes late."""
        line, owner = self._connections.line(), claim.owner
        async with line.claiming:
            line.number += 1
            number = line.number
            reply = await self._run(
                script,
                *before,
                line.claimer,
                number,
                line.confirmed,
                owner.key,
                owner.group,
                owner.slot,
                owner.generation,
                int(claim.lease * MICROSECONDS),
                claim.limit,
                len(claim.names),
                *claim.names,
                *claim.queues,
            )
            line.confirmed = number
        return reply

    async def report(
        self,
        id: str,
        token: int,
        *,
        progress: float | None = None,
        data: bytes = b"",
        lines: Sequence[str] = (),
    ) -> bool:
        last = [start(line, MOST_LOG_LINE) for line in lines[-MOST_LOG_LINES:]]
        shown = "" if progress is None else repr(float(progress))
        return bool(await self._run(REPORT, id, token, shown, data, *last) == b"1")

    async def cancel_requested(self, owner: str) -> list[tuple[str, int]]:
        found = await self._run(CANCEL_REQUESTED, owner)
        return sorted((id.decode(), int(token)) for id, token in found)

    # --- the scheduler

    async def renew(self, owners: Sequence[str], lease: float) -> int:
        return int(await self._run(RENEW, int(lease * MICROSECONDS), *owners))

    async def owners(self, node: str) -> list[str]:
        with self._connections.translated():
            found: Any = await self._connections.line().client.smembers(f"{self._prefix}owners")
        owners = (owner.decode() for owner in found)
        return sorted(owner for owner in owners if owner.startswith(f"{node}:"))

    async def release(self, owners: Sequence[str], cause: str) -> list[Released]:
        return _released(await self._run(RELEASE, tail(cause, MOST_ERROR), *owners))

    async def reap(self) -> list[Released]:
        return _released(await self._run(REAP, "its lease ran out"))

    async def promote(self, limit: int = 1000) -> int:
        return int(await self._run(PROMOTE, limit))

    async def next_due(self) -> int:
        with self._connections.translated():
            found: Any = await self._connections.line().client.zrange(
                f"{self._prefix}scheduled", 0, 0, withscores=True
            )
        return int(found[0][1]) if found else 0

    async def prune(self, limit: int = 1000) -> int:
        return int(await self._run(PRUNE, limit))

    # --- operators

    async def get(self, id: str) -> JobInfo | None:
        found = await self._run(SHOW, 1, id)
        return as_info(found[0], with_history=True) if found else None

    async def find(self, filter: Filter) -> list[JobInfo]:
        ids = await self._select(filter, tuple(State))
        found: list[JobInfo] = []
        for at in range(0, len(ids), BATCH):
            shown = await self._run(SHOW, 0, *ids[at : at + BATCH])
            found += [as_info(job, with_history=False) for job in shown]
        # A job may have gone on in between.
        return [info for info in found if info.state in (filter.states or tuple(State))]

    async def _select(
        self, filter: Filter, states: Sequence[State], *, idle: bool = False
    ) -> list[str]:
        """Return the ids of the jobs that are meant and in one of these states, newest first.

        `idle`: without those that are to be cancelled already.
        """
        wanted = "".join(str(int(state)) for state in filter.states or states if state in states)
        most = filter.limit or 1 << 40
        given = sorted({id for id in filter.ids if not filter.before or id < filter.before})
        if filter.ids and not given:
            return []
        found: list[str] = []
        before, goes_on = filter.before, True
        while goes_on and len(found) < most:
            reply = await self._run(
                SELECT,
                CANDIDATES,
                most - len(found),
                before,
                filter.queue,
                filter.name,
                filter.text,
                filter.owner,
                int(idle),
                wanted,
                *reversed(given),
            )
            before = reply[0].decode()
            found += [id.decode() for id in reply[1]]
            goes_on = bool(before)
        return found[:most]

    async def _operate(self, what: str, ids: Sequence[str], states: Sequence[State]) -> int:
        digits, count = "".join(str(int(state)) for state in states), 0
        for at in range(0, len(ids), BATCH):
            count += int(await self._run(OPERATE, what, digits, *ids[at : at + BATCH]))
        return count

    async def stats(self) -> list[QueueStats]:
        return as_stats(await self._run(STATS))

    async def cancel(self, filter: Filter) -> int:
        ids = await self._select(filter, UNFINISHED, idle=True)
        return await self._operate("cancel", ids, UNFINISHED)

    async def retry(self, filter: Filter) -> int:
        ids = await self._select(filter, FINISHED)
        return await self._operate("retry", ids[::-1], FINISHED)

    async def run_now(self, filter: Filter) -> int:
        states = sources(Event.RUN_NOW)
        ids = await self._select(filter, states)
        return await self._operate("run_now", ids[::-1], states)

    async def purge(self, filter: Filter) -> int:
        states = [state for state in filter.states or FINISHED if state in _DELETABLE]
        ids = await self._select(dataclasses.replace(filter, states=()), states)
        return await self._operate("purge", ids, states)

    async def pause(self, queue: str, paused: bool) -> None:
        await self._run(PAUSE, queue, int(paused))


def _arguments_of_new(job: NewJob) -> tuple[Argument, ...]:
    return (
        job.id,
        job.queue,
        job.name,
        job.priority,
        job.run_at,
        job.expires_at,
        repr(float(job.timeout)),
        job.max_attempts,
        int(job.keep_completed * MICROSECONDS),
        int(job.keep_failed * MICROSECONDS),
        job.unique_key,
        job.trace,
        job.payload,
    )


def _released(reply: Any) -> list[Released]:
    return [
        Released(id.decode(), name.decode(), owner.decode(), int(crashes), poisoned == b"1")
        for id, name, owner, crashes, poisoned in reply
    ]
