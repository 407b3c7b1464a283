#!/usr/bin/env bash
# Software: psycopg 3.3.9 (its package psycopg-binary), PostgreSQL 15.18, Python 3.11 or newer.
# Guess:    `for notification in connection.notifies(): …; break` takes one notification. The others
#           stay in the connection and come with the next notifies(), as messages stay in a queue
#           and rows in a cursor.
# Seen:     the generator fetches all that have arrived, and those not yet yielded are lost with it,
#           also with next() and an exception in the loop's body, in the asynchronous class too. What
#           arrives while no generator runs is kept. stop_after=1 yields all five of one
#           transaction, as its documentation admits, and loses none.
set -euo pipefail
postgres=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -1) || true
[[ $postgres ]] || { echo "postgresql is not installed"; exit 77; }
programs=$(dirname "$postgres")
place=$(mktemp -d)
server=
trap 'if [[ $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" || true; fi; rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check psycopg==3.3.9 psycopg-binary==3.3.9
user=()
if [[ $(id -u) == 0 ]]; then # PostgreSQL refuses to run as root
    chown postgres "$place"
    user=(setpriv --reuid=postgres --regid=postgres --clear-groups --)
fi
"${user[@]}" "$programs/initdb" -D data -U postgres -A trust -N >/dev/null
"${user[@]}" "$programs/postgres" -D data -c listen_addresses= -k "$place" -F 2>log &
server=$!
cat >notify.py <<'PY'
import asyncio
import sys

import psycopg

ADDRESS = f"host={sys.argv[1]} user=postgres dbname=postgres"


def burst():
    """Commit five notifications at once; they have been sent when this returns."""
    with psycopg.connect(ADDRESS) as connection:
        for number in range(5):
            connection.execute("SELECT pg_notify('jobs', %s)", [str(number)])


def rest(connection):
    """Return what comes within a second."""
    return " ".join(each.payload for each in connection.notifies(timeout=1)) or "nothing"


connection = psycopg.connect(ADDRESS, autocommit=True)
connection.execute("LISTEN jobs")

burst()
print("no generator: then", rest(connection))

burst()
for first in connection.notifies(timeout=5):
    break
print("break:", first.payload, "then", rest(connection))

burst()
try:
    for first in connection.notifies(timeout=5):
        raise ValueError
except ValueError:
    print("exception:", first.payload, "then", rest(connection))

burst()
print("next:", next(connection.notifies(timeout=5)).payload, "then", rest(connection))

burst()
batch = [each.payload for each in connection.notifies(timeout=5, stop_after=1)]
print("stop_after=1:", *batch, "then", rest(connection))


async def asynchronous():
    connection = await psycopg.AsyncConnection.connect(ADDRESS, autocommit=True)
    await connection.execute("LISTEN jobs")
    burst()
    async for first in connection.notifies(timeout=5):
        break
    others = [each.payload async for each in connection.notifies(timeout=1)]
    print("async break:", first.payload, "then", *others or ["nothing"])
    await connection.close()


asyncio.run(asynchronous())
PY
until "$programs/pg_isready" -q -h "$place" -U postgres; do kill -0 "$server"; done
seen=$(venv/bin/python notify.py "$place")
expected='no generator: then 0 1 2 3 4
break: 0 then nothing
exception: 0 then nothing
next: 0 then nothing
stop_after=1: 0 1 2 3 4 then nothing
async break: 0 then nothing'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
