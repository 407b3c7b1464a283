#!/usr/bin/env bash
# Software: granian 2.8.9, starlette 1.10.0, brotli-asgi 1.7.0, zstd-asgi 1.0, slowapi 0.1.10,
#           asgi-gzip 0.3, starlette-compress 2.0.0, Python 3.11 or newer, Linux.
# Guess:    a compressing or rate-limiting ASGI middleware treats FileResponse like any response:
#           200, compressed where the client accepts it.
# Seen:     granian offers the extension http.response.pathsend. Starlette's FileResponse uses it
#           where it is offered, so the body never passes the middleware as http.response.body.
#           Middlewares that hold the start message back until a body comes (brotli-asgi, zstd-asgi,
#           slowapi) never send anything: the response is a 500. GZipMiddleware of Starlette,
#           asgi-gzip and starlette-compress pass the message on: 200, not compressed.
#           Only a client whose Accept-Encoding the middleware supports gets the 500, so curl
#           without --compressed shows nothing; slowapi fails for every client.
set -euo pipefail
place=$(mktemp -d)
server=
trap 'if [[ $server ]]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check granian==2.8.9 starlette==1.10.0 \
    brotli-asgi==1.7.0 zstd-asgi==1.0 slowapi==0.1.10 asgi-gzip==0.3 starlette-compress==2.0.0
cat >app.py <<'APP'
import os
import pathlib

from asgi_gzip import GZipMiddleware as AsgiGzip
from brotli_asgi import BrotliMiddleware
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware
from slowapi.util import get_remote_address
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse
from starlette.routing import Route
from starlette_compress import CompressMiddleware
from zstd_asgi import ZstdMiddleware

MIDDLEWARES = {
    "brotli-asgi": BrotliMiddleware,
    "zstd-asgi": ZstdMiddleware,
    "slowapi": SlowAPIASGIMiddleware,
    "starlette": GZipMiddleware,
    "asgi-gzip": AsgiGzip,
    "starlette-compress": CompressMiddleware,
}
page = pathlib.Path("page.html")
page.write_text("<p>hello</p>" * 500)


async def index(request):
    return FileResponse(page)


app = Starlette(routes=[Route("/", index)])
app.state.limiter = Limiter(key_func=get_remote_address)
if name := os.environ.get("MIDDLEWARE"):
    app.add_middleware(MIDDLEWARES[name])
APP
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')

# Print "STATUS ENCODING" of one response, with the encoding that the client accepts.
ask() {
    local head
    head=$(curl -s -o /dev/null -D - --max-time 10 -H "Accept-Encoding: $1" "http://127.0.0.1:$port/")
    awk -v encoding=plain 'NR == 1 { status = $2 }
        tolower($1) == "content-encoding:" { encoding = $2 }
        END { print status, encoding }' <<<"${head//$'\r'/}"
}

seen=$(while read -r name accepts; do
    MIDDLEWARE=$name venv/bin/granian --interface asgi --port "$port" app:app >/dev/null 2>&1 &
    server=$!
    until curl -s -o /dev/null --max-time 1 "http://127.0.0.1:$port/none"; do
        kill -0 "$server"
    done
    echo "$name, $accepts accepted: $(ask "$accepts")"
    kill "$server"
    wait "$server" || true
done <<'CASES'
brotli-asgi br
brotli-asgi identity
zstd-asgi zstd
slowapi identity
starlette gzip
asgi-gzip gzip
starlette-compress gzip
CASES
)
expected='brotli-asgi, br accepted: 500 plain
brotli-asgi, identity accepted: 200 plain
zstd-asgi, zstd accepted: 500 plain
slowapi, identity accepted: 500 plain
starlette, gzip accepted: 200 plain
asgi-gzip, gzip accepted: 200 plain
starlette-compress, gzip accepted: 200 plain'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
