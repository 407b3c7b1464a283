#!/usr/bin/env bash
# Software: h2 4.4.1, Python 3.11 or newer.
# Guess:    increment_flow_control_window(n) lets the peer send n bytes more, at any moment; a server
#           that wants a larger window for an upload calls it when the upload has proven to be large.
#           Once all data is acknowledged, the window is the first one plus n.
# Seen:     the window is refilled up to the largest size that it ever had, and an increment raises
#           that size only where the window as it is at that moment, without the bytes that are
#           received and not yet acknowledged, becomes larger than it. So from each increment as many
#           bytes are lost as were unacknowledged; of 50,000 given with 60,000 unacknowledged,
#           nothing is left. Nothing raises an error.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check h2==4.4.1 hpack==4.2.0 hyperframe==6.1.0
cat >window.py <<'PY'
from h2.config import H2Configuration
from h2.connection import H2Connection

REQUEST = [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "example.com")]


class Upload:
    """One stream between a client and a server that live in this process."""

    def __init__(self):
        self.client = H2Connection(H2Configuration(client_side=True))
        self.server = H2Connection(H2Configuration(client_side=False))
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.client.send_headers(1, REQUEST)
        self.exchange()

    def exchange(self):
        self.server.receive_data(self.client.data_to_send())
        self.client.receive_data(self.server.data_to_send())

    def send(self, size):
        while size:
            part = min(size, 16384)
            self.client.send_data(1, bytes(part))
            size -= part
        self.exchange()

    def increment(self, size):
        self.server.increment_flow_control_window(size)
        self.server.increment_flow_control_window(size, 1)
        self.exchange()

    def acknowledge(self, size):
        self.server.acknowledge_received_data(size, 1)
        self.exchange()


for unacknowledged in 0, 20_000, 60_000:
    upload = Upload()
    first = upload.client.local_flow_control_window(1)
    upload.send(unacknowledged)
    upload.increment(50_000)
    if unacknowledged:
        upload.acknowledge(unacknowledged)
    window = upload.client.local_flow_control_window(1)
    print(f"50000 more while {unacknowledged} are unacknowledged: {first} + {window - first}")
PY
seen=$(venv/bin/python window.py)
expected='50000 more while 0 are unacknowledged: 65535 + 50000
50000 more while 20000 are unacknowledged: 65535 + 30000
50000 more while 60000 are unacknowledged: 65535 + 0'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
