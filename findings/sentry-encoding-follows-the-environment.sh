#!/usr/bin/env bash
# Software: sentry-sdk 2.75.0, brotli 1.2.1, Python 3.11 or newer.
# Guess:    what sentry-sdk sends to a collector is gzip (it has an option for its level), whatever
#           else is installed.
# Seen:     as soon as the package brotli can be imported (it comes along with brotli-asgi,
#           flask-compress, httpx[brotli] and others), bodies are brotli. A relay, proxy or test
#           collector that knows gzip only loses all events from the release that brought brotli.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check sentry-sdk==2.75.0
cat >send.py <<'PY'
import http.server
import threading

import sentry_sdk

seen = []


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        seen.append(self.headers["Content-Encoding"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
sentry_sdk.init(dsn=f"http://key@127.0.0.1:{server.server_port}/1", default_integrations=False)
sentry_sdk.capture_message("hello")
sentry_sdk.flush(10)
print(*sorted(set(seen)))
PY
seen=$(
    echo "without brotli: $(venv/bin/python send.py)"
    venv/bin/pip install --quiet --disable-pip-version-check brotli==1.2.1 2>/dev/null
    echo "with brotli: $(venv/bin/python send.py)"
)
expected='without brotli: gzip
with brotli: br'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
