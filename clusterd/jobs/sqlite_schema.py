"""The tables of a job store in SQLite, and its version.

Indexes are partial: the one that claims walk along holds available jobs only, in the order in which
they are claimed, and all that a claim asks of a job. So a claim costs the same with a million of
scheduled, finished or waiting jobs. Each index that a transaction changes costs it two write(2) a
page, so there is none by lease: the jobs that run are few, and their owners' index lists them.
"""

import sqlite3

from clusterd.jobs.store import StoreError

SCHEMA = 1
# While machines or generations are upgraded one after the other, a process meets the tables of the
# next version, which only add.
NEWEST = SCHEMA + 1
APPLICATION_ID = 0x636C6A62  # "cljb": tells our files from other SQLite databases, for file(1), too

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE job (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    priority INTEGER NOT NULL,
    place INTEGER NOT NULL,                     -- in its queue, by the time of becoming available
    available INTEGER NOT NULL,                 -- since when
    run_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    timeout REAL NOT NULL,
    max_attempts INTEGER NOT NULL,
    keep_completed INTEGER NOT NULL,            -- microseconds
    keep_failed INTEGER NOT NULL,
    unique_key TEXT,                            -- NULL for none
    trace TEXT NOT NULL,
    created INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    token INTEGER NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',             -- of the attempt that runs, or ran last
    "group" TEXT NOT NULL DEFAULT '',
    slot INTEGER NOT NULL DEFAULT -1,
    generation INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    ended TEXT NOT NULL DEFAULT '',             -- as what the last attempt was reported to end
    started INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0,
    kept_until INTEGER NOT NULL DEFAULT 0,
    progress REAL NOT NULL DEFAULT 0,
    progress_data BLOB NOT NULL DEFAULT x'',
    error TEXT NOT NULL DEFAULT '',
    result BLOB NOT NULL DEFAULT x'',
    payload BLOB NOT NULL
);
CREATE INDEX ready ON job (queue, priority DESC, place, name, expires_at, state) WHERE state = 2;
CREATE INDEX owners ON job (owner) WHERE state = 3;
CREATE INDEX due ON job (run_at) WHERE state = 0;
CREATE INDEX expiring ON job (expires_at) WHERE state <= 2 AND expires_at > 0;
CREATE INDEX finished ON job (state, id) WHERE state >= 4;
CREATE INDEX kept ON job (kept_until) WHERE state >= 4;
CREATE INDEX names ON job (name, id);
CREATE UNIQUE INDEX unfinished ON job (unique_key) WHERE state < 4 AND unique_key IS NOT NULL;
CREATE TABLE event (
    job INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    event TEXT NOT NULL,
    owner TEXT NOT NULL,
    "group" TEXT NOT NULL,
    slot INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    started INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE tally (                            -- to count a million of jobs takes too long
    queue TEXT NOT NULL,
    state INTEGER NOT NULL,                     -- −1 for the last place that was given
    jobs INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) WITHOUT ROWID;
CREATE TABLE paused (queue TEXT PRIMARY KEY) WITHOUT ROWID;
"""


def prepare(connection: sqlite3.Connection, path: str, application: str) -> None:
    """Create the tables in an empty database, or check them. Raises StoreError, sqlite3.Error.

    `application` is stored with a new database; '' matches all.
    """
    if not _is_ours(connection):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not _is_ours(connection):  # another process may have been quicker
                _create(connection, path, application)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    _check(connection, path, application)


def _is_ours(connection: sqlite3.Connection) -> bool:
    (marker,) = connection.execute("PRAGMA application_id").fetchone()
    return bool(marker == APPLICATION_ID)


def _create(connection: sqlite3.Connection, path: str, application: str) -> None:
    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise StoreError(
            f"{path} is a database of another program, not a job store", "Name another file."
        )
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    rows = (("schema", SCHEMA), ("application", application))
    connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _check(connection: sqlite3.Connection, path: str, application: str) -> None:
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    if meta["schema"] > NEWEST:
        raise StoreError(
            f"the job store {path} was made by a newer clusterd: it has schema {meta['schema']}, "
            f"expected {NEWEST} at most",
            "Upgrade clusterd here, too.",
        )
    if application and meta["application"] not in ("", application):
        raise StoreError(
            f"the job store {path} belongs to the application {meta['application']!r}, not to "
            f"{application!r}",
            "Name another file.",
        )
