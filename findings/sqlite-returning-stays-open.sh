#!/usr/bin/env bash
# Software: the module sqlite3 of CPython 3.11 to 3.13 with SQLite 3.40.1. Nothing is installed.
# Guess:    a job is claimed by `cursor.execute("UPDATE … RETURNING id")`, `cursor.fetchone()`,
#           `commit()`. With `isolation_level=None` the update is committed when execute() returns,
#           all the more as `in_transaction` is false. An UPDATE opens a transaction, so that
#           rollback() undoes it, also where the statement begins with a common table expression.
# Seen:     SQLite updates all rows at the first step and ends the statement after the last row was
#           read. Until then commit() fails with "SQL statements in progress". With
#           `isolation_level=None` the write lock stays, while `in_transaction` is false, other
#           connections do not see the update, and commit() and rollback() do nothing; the update
#           is committed when the cursor is closed, also after that rollback().
#           sqlite3 opens a transaction only if the first word is INSERT, UPDATE, DELETE or REPLACE:
#           `WITH … UPDATE` is committed at once, and rollback() does not undo it.
#           fetchall() and an explicit BEGIN IMMEDIATE avoid all of this.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
cat >claim.py <<'PY'
import sqlite3

UPDATE = "UPDATE job SET state = 1 WHERE state = 0"
WITH = "WITH due AS (SELECT id FROM job) UPDATE job SET state = 1 WHERE id IN (SELECT id FROM due)"


def connections(**options):
    """Return two connections to a new table of five jobs."""
    mine = sqlite3.connect("jobs.db", timeout=0, **options)
    mine.executescript("""
        DROP TABLE IF EXISTS job; CREATE TABLE job (id INTEGER PRIMARY KEY, state INT DEFAULT 0);
        INSERT INTO job (id) VALUES (1), (2), (3), (4), (5);
    """)
    return mine, sqlite3.connect("jobs.db", timeout=0, isolation_level=None)


def lock(other):
    try:
        other.executescript("BEGIN IMMEDIATE; ROLLBACK")
    except sqlite3.OperationalError as error:
        return str(error)
    return "free"


def claimed(other):
    return other.execute("SELECT sum(state) FROM job").fetchone()[0]


mine, other = connections()
cursor = mine.execute(UPDATE + " RETURNING id")
cursor.fetchone()
try:
    mine.commit()
except sqlite3.OperationalError as error:
    print("commit after fetchone:", error)
cursor.fetchall()
mine.commit()
print("commit after fetchall:", claimed(other), "claimed")

mine, other = connections(isolation_level=None)
cursor = mine.execute(UPDATE + " RETURNING id")
cursor.fetchone()
mine.commit()
print("autocommit: in_transaction", mine.in_transaction, "|", lock(other), "|", claimed(other))
mine.rollback()
cursor.close()
print("autocommit, after rollback and close:", lock(other), "|", claimed(other))

for name, statement in ("UPDATE", UPDATE), ("WITH … UPDATE", WITH):
    mine, other = connections()
    mine.execute(statement)
    mine.rollback()
    print(name, "after rollback:", claimed(other), "claimed")
PY
seen=$(python3 claim.py)
expected='commit after fetchone: cannot commit transaction - SQL statements in progress
commit after fetchall: 5 claimed
autocommit: in_transaction False | database is locked | 0
autocommit, after rollback and close: free | 5
UPDATE after rollback: 0 claimed
WITH … UPDATE after rollback: 5 claimed'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
