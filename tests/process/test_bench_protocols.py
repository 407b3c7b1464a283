"""WebSockets, streams of events, slow clients and TLS: what generators count is what clusterd's
own application counted."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clusterd.bench.crew import Crew
from clusterd.bench.errors import Unreachable
from clusterd.bench.interval import Interval
from clusterd.bench.load import SSE, WEBSOCKET, Load, Request, Target
from clusterd.bench.secrecy import client_context
from clusterd.bench.target import parse_target
from tests.support.authority import Authority, connect
from tests.support.secure import PAIR
from tests.support.server import Server, serving

BUDGET = 300


@dataclass
class Seen:
    """What generators said, added up."""

    requests: int = 0
    sse_events: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: int = 0

    def add(self, one: Interval) -> None:
        self.requests += one.requests
        self.sse_events += one.sse_events
        self.errors.update(one.errors)
        self.latencies += sum(one.latency.values())


def driven(target: Target, load: Load, enough: int = 0) -> Seen:
    """A run to its end, or to so many answers."""
    seen = Seen()
    with Crew(target, load, 1) as crew:
        crew.connect()
        crew.go()
        while not crew.done:
            for _, one in crew.intervals(10.0):
                seen.add(one)
            if enough and seen.requests >= enough:
                crew.finish()
        assert crew.failures == []
    return seen


def told(server: Server) -> Counter[str]:
    """What the application counted."""
    return Counter(json.loads(server.get("/told")))


def test_every_echo_every_stream_and_every_event_counts_once(tmp_path: Path) -> None:
    with serving(tmp_path, "chatter:app", workers=1, BUDGET=str(BUDGET)) as server:
        target = parse_target(server.url.replace("http", "ws"))
        load = Load(connections=5, protocol=WEBSOCKET, message=300)
        echoes = driven(target, load, BUDGET)
        assert told(server) == {"echoes": BUDGET, "bytes": 300 * BUDGET}
        load = Load((Request("/events"),), connections=5, protocol=SSE)
        streams = driven(parse_target(server.url), load, BUDGET)
        assert told(server)["streams"] == BUDGET
    assert echoes.requests == echoes.latencies == BUDGET
    assert streams.requests == streams.latencies == BUDGET
    assert streams.sse_events == 4 * BUDGET
    assert not echoes.errors
    assert not streams.errors


def test_slow_clients_count_and_have_no_latency(tmp_path: Path) -> None:
    request = Request("/", "POST", body=bytes(3000))
    load = Load((request,), connections=4, rate=50, duration=1.0, slow=0.5, slow_for=0.2)
    with serving(tmp_path, "chatter:app", workers=1) as server:
        seen = driven(parse_target(server.url), load)
        theirs = told(server)
    assert not seen.errors
    assert theirs["in pieces"] > 0
    # What the application has answered as the run ended may not be counted any more.
    assert 0 <= theirs["at once"] - seen.latencies <= 4
    assert 0 <= theirs["in pieces"] - (seen.requests - seen.latencies) <= 2


def test_under_tls_by_schedule(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    with serving(tmp_path, "chatter:app", *PAIR, workers=1, BUDGET="60") as server:
        port = server.address[1]
        target = parse_target(f"wss://localhost:{port}/", ca_file=authority.path)
        seen = driven(target, Load(connections=3, rate=2000, protocol=WEBSOCKET), 60)
        context = client_context(target)
        assert context is not None
        client = connect(server.address, context)
        client.request("GET", "/told")
        assert json.load(client.getresponse())["echoes"] == seen.requests == 60
        client.close()
        assert not seen.errors
        with pytest.raises(Unreachable, match="authority that is not trusted"):
            driven(parse_target(f"https://localhost:{port}/"), Load(connections=3))
