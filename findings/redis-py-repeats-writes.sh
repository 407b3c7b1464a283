#!/usr/bin/env bash
# Software: redis-py 8.1.0, Debian's redis-server 7.0.15, Python 3.11 or newer.
# Guess:    a command that gets no reply within socket_timeout raises TimeoutError, and the caller
#           decides; only what can be repeated is repeated. At worst the caller does not know whether
#           it was done.
# Seen:     the client repeats each command after a timeout, up to ten times by default, writes too,
#           and returns the reply of the last try as if it were the only one. The server was slow,
#           not dead, and does both: INCR counts twice, RPUSH queues a job twice, LPOP loses an
#           element, a MULTI transaction is committed twice, XADD adds two entries. SET with NX
#           returns None and Lock.acquire() returns False although the lock was taken, by the first
#           try: it is held with a token that the caller believes to be refused, until its timeout.
#           With retry=Retry(NoBackoff(), 0) each of them raises TimeoutError and is done once.
set -euo pipefail
command -v redis-server >/dev/null || { echo "redis-server is not installed"; exit 77; }
place=$(mktemp -d)
server=
trap 'if [[ $server ]]; then kill -CONT "$server"; kill "$server"; wait "$server" || true; fi; rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check redis==8.1.0
redis-server --port 0 --unixsocket "$place/socket" --save "" --dir "$place" >/dev/null &
server=$!
cat >writes.py <<'PY'
import os
import signal
import sys
import threading

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PID = int(sys.argv[1])


def stalled(command):
    """Run a command whose server stands still for longer than the first try waits."""
    os.kill(PID, signal.SIGSTOP)
    timer = threading.Timer(0.9, os.kill, (PID, signal.SIGCONT))
    timer.start()
    try:
        return command()
    except redis.TimeoutError as error:
        return type(error).__name__
    finally:
        timer.join()


def show(name, **options):
    client = redis.Redis(
        unix_socket_path="socket", socket_timeout=0.5, decode_responses=True, **options
    )
    client.flushall()
    client.rpush("work", 0, 1, 2)
    lock = client.lock("mutex", timeout=60, blocking=False)

    def transaction():
        with client.pipeline(transaction=True) as pipe:
            return pipe.incr("account").execute()

    print(name)
    print(" INCR:", stalled(lambda: client.incr("count")), "| value", client.get("count"))
    print(" RPUSH:", stalled(lambda: client.rpush("jobs", "a")), "|", client.lrange("jobs", 0, -1))
    print(" LPOP:", stalled(lambda: client.lpop("work")), "|", client.lrange("work", 0, -1))
    print(" MULTI:", stalled(transaction), "| value", client.get("account"))
    entry = stalled(lambda: client.xadd("log", {"a": 1}))
    print(" XADD:", entry if entry == "TimeoutError" else "an id", "| entries", client.xlen("log"))
    print(" SET NX:", stalled(lambda: client.set("key", "me", nx=True)), "|", client.get("key"))
    print(" Lock:", stalled(lock.acquire), "| taken", client.exists("mutex") == 1)


show("by default")
show("without retries", retry=Retry(NoBackoff(), 0))
PY
until [[ -S socket ]]; do kill -0 "$server"; done
seen=$(venv/bin/python writes.py "$server")
expected="by default
 INCR: 2 | value 2
 RPUSH: 2 | ['a', 'a']
 LPOP: 1 | ['2']
 MULTI: [2] | value 2
 XADD: an id | entries 2
 SET NX: None | me
 Lock: False | taken True
without retries
 INCR: TimeoutError | value 1
 RPUSH: TimeoutError | ['a']
 LPOP: TimeoutError | ['1', '2']
 MULTI: TimeoutError | value 1
 XADD: TimeoutError | entries 1
 SET NX: TimeoutError | me
 Lock: TimeoutError | taken True"
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
