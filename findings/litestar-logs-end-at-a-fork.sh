#!/usr/bin/env bash
# Software: litestar 2.25.0, Python 3.11 or newer, Linux.
# Guess:    making a Litestar application starts nothing, so a process may fork after it (gunicorn
#           --preload, multiprocessing's fork), and the child logs as its parent does.
# Seen:     Litestar() with its default logging starts the thread of a logging QueueListener. The
#           child has a copy of the queue and of its handler, and no thread: whatever it logs is put
#           into the queue and never written. There is no error; only the lines are missing.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check litestar==2.25.0
cat >fork.py <<'PY'
import logging
import os
import threading
import time

from litestar import Litestar, get


@get("/")
async def index() -> str:
    return ""


app = Litestar([index])
print("threads after the import:", threading.active_count() - 1, flush=True)
log = logging.getLogger("litestar")
log.error("logged before the fork")
time.sleep(1)
if os.fork() == 0:
    log.error("logged in the child")
    time.sleep(1)
    os._exit(0)
os.wait()
log.error("logged in the parent after the fork")
PY
seen=$(venv/bin/python -W ignore fork.py 2>&1 | grep -oE 'threads after.*|logged .*')
expected='threads after the import: 1
logged before the fork
logged in the parent after the fork'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
