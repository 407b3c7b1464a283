#!/usr/bin/env bash
# Software: pyarrow 26.0.1 (wheel for x86-64 Linux), Python 3.12 or newer.
# Guess:    importing pyarrow starts nothing: its thread pools are lazy, and its memory pool is
#           mimalloc's by default, which has no thread.
# Seen:     the wheel's jemalloc, which nothing uses, starts its background thread while it is
#           imported. Python counts it: from then on each os.fork() of the process, also of a
#           program that has no thread of its own, raises the DeprecationWarning that it "is
#           multi-threaded" (an error where warnings are errors), and a server that forks from a
#           loaded image must tell this thread from a dangerous one. In the forked child it is gone
#           at first; jemalloc handles the fork by itself.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python=$(command -v python3.13 || command -v python3.12 || command -v python3)
"$python" -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: pyarrow==26.0.1
cat >fork.py <<'PY'
import os
import pathlib
import sys
import warnings


def native_threads():
    return sorted(
        (task / "comm").read_text().strip()
        for task in pathlib.Path("/proc/self/task").iterdir()
        if int(task.name) != os.getpid()
    )


print("before:", native_threads())
import pyarrow

print("after:", native_threads(), "memory pool:", pyarrow.default_memory_pool().backend_name)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pid = os.fork()
    if pid == 0:
        print("in the child:", native_threads(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
print("the fork warned:", [str(one.message).partition(", ")[2] for one in caught])
PY
if venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
    warned="['use of fork() may lead to deadlocks in the child.']"
else
    warned='[]' # Python 3.11 does not look
fi
seen=$(PYTHONUNBUFFERED=1 venv/bin/python fork.py)
expected="before: []
after: ['jemalloc_bg_thd'] memory pool: mimalloc
in the child: []
the fork warned: $warned"
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
