#!/usr/bin/env bash
# Software: CacheControl 0.14.4, requests-cache 1.3.3, aiohttp-client-cache 0.15.0, hishel 2.0.0
#           (with rfc=True), httpx 0.28.1, requests 2.34.2, aiohttp 3.14.5, Python 3.11 or newer.
# Guess:    an HTTP cache for Python's clients that follows Cache-Control counts Age (RFC 9111,
#           section 4.2.3), drops a stored response after a successful POST, PUT or DELETE of its
#           URL (4.4, a MUST), and never serves one language's response to another (Vary, 4.1).
# Seen:     none of the four counts Age: a response of "max-age=60" with "Age: 61" and a new Date is
#           stale when it arrives, and is served for 60 more seconds. (nginx 1.22, proxying a CDN,
#           sends just that: it puts its own Date and passes Age on unchanged.)
#           CacheControl drops what is stored after PUT and DELETE, not after POST; requests-cache
#           and aiohttp-client-cache never do, so a client does not see its own change; hishel does.
#           Three of them heed Vary; aiohttp-client-cache serves German to a request for English.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check CacheControl==0.14.4 requests-cache==1.3.3 \
    aiohttp-client-cache==0.15.0 hishel==2.0.0 httpx==0.28.1 requests==2.34.2 aiohttp==3.14.5
cat >caches.py <<'PY'
import asyncio
import http.server
import itertools
import threading

import hishel
import hishel.httpx
import requests
import requests_cache
from aiohttp_client_cache import CacheBackend, CachedSession
from cachecontrol import CacheControl

requests_received = itertools.count(1)


class Origin(http.server.BaseHTTPRequestHandler):
    """Send a body that differs each time, with Age, Vary or neither as the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{next(requests_received)} {self.headers.get('Accept-Language')}".encode()
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=60")
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/age":
            self.send_header("Age", "61")
        if self.path == "/language":
            self.send_header("Vary", "Accept-Language")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *args):
        pass


async def aiohttp_client_cache(exchanges):
    async with CachedSession(cache=CacheBackend(), cache_control=True) as session:
        bodies = []
        for method, url, headers in exchanges:
            async with session.request(method, url, headers=headers) as response:
                bodies.append(await response.text())
        return bodies


def synchronous(make):
    def send(exchanges):
        client = make()
        return [client.request(method, url, headers=headers).text for method, url, headers in exchanges]

    return send


CLIENTS = {
    "CacheControl": synchronous(lambda: CacheControl(requests.Session())),
    "requests-cache": synchronous(
        lambda: requests_cache.CachedSession(backend="memory", cache_control=True)
    ),
    "aiohttp-client-cache": lambda exchanges: asyncio.run(aiohttp_client_cache(exchanges)),
    "hishel": synchronous(
        lambda: hishel.httpx.CacheClient(
            storage=hishel.SqliteStorage(database_path=f"{next(requests_received)}.db"), rfc=True
        )
    ),
}
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=server.serve_forever, daemon=True).start()
origin = f"http://127.0.0.1:{server.server_port}"
for name, send in CLIENTS.items():
    first, second = send([("GET", f"{origin}/", {})] * 2)
    assert first == second, "a fresh response is reused"
    print(f"{name}:")
    first, second = send([("GET", f"{origin}/age", {})] * 2)
    print("  a stale response (by Age) is", "reused" if first == second else "not reused")
    for method in "POST", "PUT", "DELETE":
        first, _, second = send([(way, f"{origin}/", {}) for way in ("GET", method, "GET")])
        print(f"  after {method}, the old response is", "reused" if first == second else "dropped")
    languages = [
        ("GET", f"{origin}/language", {"Accept-Language": language}) for language in ("de", "en")
    ]
    print("  asked for de, en:", ", ".join(body.split()[1] for body in send(languages)))
PY
seen=$(venv/bin/python -W ignore caches.py)
expected='CacheControl:
  a stale response (by Age) is reused
  after POST, the old response is reused
  after PUT, the old response is dropped
  after DELETE, the old response is dropped
  asked for de, en: de, en
requests-cache:
  a stale response (by Age) is reused
  after POST, the old response is reused
  after PUT, the old response is reused
  after DELETE, the old response is reused
  asked for de, en: de, en
aiohttp-client-cache:
  a stale response (by Age) is reused
  after POST, the old response is reused
  after PUT, the old response is reused
  after DELETE, the old response is reused
  asked for de, en: de, de
hishel:
  a stale response (by Age) is reused
  after POST, the old response is dropped
  after PUT, the old response is dropped
  after DELETE, the old response is dropped
  asked for de, en: de, en'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
