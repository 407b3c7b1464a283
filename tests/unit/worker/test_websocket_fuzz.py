"""Clients, apps, transports and drains in any order: nothing raises, and nothing is left behind."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.config.serving import WebsocketSettings
from tests.unit.wire.frames import closing, frame
from tests.unit.worker.fakes import run
from tests.unit.worker.sockets import Talk, shake

FIRST = st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0xC1, 0xC2, 0x41, 0x83])
FRAME = st.builds(frame, FIRST, st.binary(max_size=200))
CLOSING = st.builds(closing, st.integers(0, 6000), st.binary(max_size=130))
BYTES = st.one_of(FRAME, FRAME, CLOSING, st.binary(max_size=20))
PIECES = st.builds(lambda data, cut: (data[:cut], data[cut:]), BYTES, st.integers(0, 30))
ACTIONS = st.one_of(
    st.tuples(st.just("feed"), PIECES),
    st.tuples(st.sampled_from(["settle", "stick", "drain", "eof", "cancel", "leave", "stop"])),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 6.0, 21.0, 40.0])),
)
MESSAGES = st.lists(
    st.sampled_from(
        [
            {"type": "websocket.accept"},
            {"type": "websocket.accept", "subprotocol": "x"},
            {"type": "websocket.send", "text": "x" * 40_000},
            {"type": "websocket.send", "bytes": b"x"},
            {"type": "websocket.send"},
            {"type": "websocket.close", "code": 3000},
            {"type": "websocket.http.response.start", "status": 401},
            {"type": "websocket.http.response.body", "body": b"x", "more_body": True},
            {"type": "websocket.http.response.body", "body": b"x"},
            "receive",
            "receive",
        ]
    ),
    max_size=8,
)


def follows(messages: list[Any]) -> Any:
    """An app that does what it is told, and swallows most of what it is answered."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            if message == "receive":
                await receive()
            else:
                await send(message)

    return app


def act(talk: Talk, action: Any) -> None:
    link, transport = talk.socket, talk.transport
    match action:
        case ("feed", pieces) if not transport.paused and not transport.closed:
            for piece in pieces:
                link.data_received(piece)
        case ("stick",):
            transport.stuck = True
        case ("drain",):
            transport.drained()
        case ("eof",) if not transport.closed:
            if not link.eof_received():
                transport.close()
        case ("cancel",):
            link.cancel()
        case ("leave",):
            talk.server.drain_begins(last=False, leave_by=talk.now)
        case ("stop",):
            talk.server.drain_begins(last=True, leave_by=talk.now + 10)
        case ("pass", seconds):
            talk.pass_time(seconds)


@settings(max_examples=200, deadline=None)
@given(MESSAGES, st.lists(ACTIONS, max_size=25))
def test_whatever_happens(messages: list[Any], actions: list[Any]) -> None:
    async def test() -> None:
        limits = WebsocketSettings(websocket_max_size=1000)
        app = follows([{"type": "websocket.accept"}, *messages] if len(messages) % 3 else messages)
        talk = Talk(app, limits)
        stray: list[Any] = []
        talk.loop.set_exception_handler(lambda _, context: stray.append(context))
        talk.feed(shake("/", "Sec-WebSocket-Extensions: permessage-deflate"))
        link = talk.socket
        for action in actions:
            act(talk, action)
            await talk.settle()
            assert len(link._buffer) <= 1100
            assert link.due > 0
        link.connection_lost(None)
        await talk.settle()
        link.cancel()
        await talk.settle()
        server = talk.server
        assert (server.open, server.tasks, server.running) == (0, set(), {})
        assert not server.wheel._buckets
        assert not stray

    run(test)
