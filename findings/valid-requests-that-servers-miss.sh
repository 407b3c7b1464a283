#!/usr/bin/env bash
# Software: uvicorn 0.54.0 with h11 0.16.0 and with httptools 0.9.0, hypercorn 0.18.0, granian 2.8.9,
#           starlette 1.10.0, Python 3.11 or newer, Linux.
# Guess:    these four forms of a valid HTTP/1 request reach an ASGI application alike, and do not
#           depend on whether uvicorn was installed as uvicorn or as uvicorn[standard]:
#           1. an absolute-form target (RFC 9112, 3.2.2: a server MUST accept it) has the path /page;
#           2. an empty line before the request line is ignored (2.2: a server SHOULD);
#           3. a response of unknown length to an HTTP/1.0 client ends with the connection (6.1: a
#              server MUST NOT send chunks), and http_version is "1.0" (ASGI: "1.0", "1.1" or "2");
#           4. a client that has shut down its sending side (printf ... | nc -N) gets its response.
# Seen:     1. uvicorn with h11 and hypercorn take the whole URL for the path: 404.
#           2. Both respond with 400, uvicorn with httptools and granian with 200.
#           3. uvicorn with httptools (what [standard] installs) sends chunks to the old client;
#              granian's http_version is "1", so a comparison with "1.0" fails.
#           4. uvicorn (both) and granian close the connection without a byte as soon as they read
#              the end of the client's data, and the application's response is lost; of uvicorn only
#              a response that was written before comes through. hypercorn responds.
set -euo pipefail
place=$(mktemp -d)
server=
trap 'if [[ $server ]]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uvicorn==0.54.0 h11==0.16.0 httptools==0.9.0 \
    hypercorn==0.18.0 granian==2.8.9 starlette==1.10.0
cat >app.py <<'PY'
import asyncio

from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route


async def page(request):
    await asyncio.sleep(0.2)  # as for a database: the end of the client's data is read meanwhile

    async def body():
        yield f"http_version {request.scope['http_version']}"

    return StreamingResponse(body())


app = Starlette(routes=[Route("/page", page)])
PY
cat >ask.py <<'PY'
import socket
import sys


def ask(request, shut=False):
    """Send the request; return the response up to its end of the connection."""
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
        client.sendall(request)
        if shut:
            client.shutdown(socket.SHUT_WR)
        received = b""
        while data := client.recv(65536):
            received += data
    return received.decode()


def status(response):
    return response.split()[1] if response else "no response"


host = b"Host: localhost\r\nConnection: close\r\n\r\n"
print("  absolute form:", status(ask(b"GET http://localhost/page HTTP/1.1\r\n" + host)))
print("  after an empty line:", status(ask(b"\r\nGET /page HTTP/1.1\r\n" + host)))
old = ask(b"GET /page HTTP/1.0\r\n\r\n")
framing = "chunked" if "transfer-encoding: chunked" in old.lower() else "not chunked"
version = old.partition("http_version ")[2].split("\r")[0]
print(f"  HTTP/1.0: {status(old)}, {framing}, http_version {version}")
print("  sending side shut:", status(ask(b"GET /page HTTP/1.1\r\n" + host, shut=True)))
PY
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
seen=$(while read -r name command; do
    echo "$name:"
    # Unquoted: the command has several words.
    venv/bin/$command app:app >/dev/null 2>&1 &
    server=$!
    until curl -s -o /dev/null --max-time 1 "http://127.0.0.1:$port/page"; do
        kill -0 "$server"
    done
    venv/bin/python ask.py "$port"
    kill "$server"
    wait "$server" || true
done <<COMMANDS
uvicorn-h11 uvicorn --log-level critical --http h11 --port $port
uvicorn-httptools uvicorn --log-level critical --http httptools --port $port
hypercorn hypercorn --log-level critical --bind 127.0.0.1:$port
granian granian --interface asgi --port $port
COMMANDS
)
expected='uvicorn-h11:
  absolute form: 404
  after an empty line: 400
  HTTP/1.0: 200, not chunked, http_version 1.0
  sending side shut: no response
uvicorn-httptools:
  absolute form: 200
  after an empty line: 200
  HTTP/1.0: 200, chunked, http_version 1.0
  sending side shut: no response
hypercorn:
  absolute form: 404
  after an empty line: 400
  HTTP/1.0: 200, not chunked, http_version 1.0
  sending side shut: 200
granian:
  absolute form: 200
  after an empty line: 200
  HTTP/1.0: 200, not chunked, http_version 1
  sending side shut: no response'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
