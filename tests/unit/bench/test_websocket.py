"""Clients that talk over a WebSocket, against a server that the test plays."""

import struct
from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from clusterd.bench.frames import MASKS
from clusterd.bench.load import WEBSOCKET
from clusterd.bench.websocket import WebSocketConnection
from tests.unit.bench.stage import Stage, plan


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def dialed(stage: Stage, **more: int) -> WebSocketConnection:
    """A connection that has sent its handshake."""
    made = WebSocketConnection(stage, stage.dialer, plan("ws://h/echo", WEBSOCKET, **more))
    made.dial()
    stage.turn()
    return made


def shaken(stage: Stage, **more: int) -> tuple[WebSocketConnection, ServerProtocol]:
    """One that is ready, and the server's side as the websockets package has it."""
    made = dialed(stage, **more)
    return made, accepted(stage)


def accepted(stage: Stage) -> ServerProtocol:
    """The server's side, once it has agreed."""
    server = ServerProtocol()
    server.receive_data(stage.heard())
    (request,) = server.events_received()
    server.send_response(server.accept(request))  # type: ignore[arg-type]
    stage.says(b"".join(server.data_to_send()))
    return server


def echo(stage: Stage, server: ServerProtocol) -> None:
    """The server's answer to the message that came."""
    (frame,) = got(stage, server)
    server.send_text(bytes(frame.data))
    stage.says(b"".join(server.data_to_send()))


def got(stage: Stage, server: ServerProtocol) -> list[Frame]:
    """What the client sent, as frames."""
    server.receive_data(stage.heard())
    return [event for event in server.events_received() if isinstance(event, Frame)]


def test_a_message_is_sent_and_its_echo_is_counted(stage: Stage) -> None:
    client, server = shaken(stage, message=300)
    assert stage.free == [client]
    for number in (1, 2):
        client.ask(due=1, now=2)
        (frame,) = got(stage, server)
        assert (frame.opcode, len(frame.data)) == (Opcode.TEXT, 300)
        server.send_text(bytes(frame.data))
        stage.says(b"".join(server.data_to_send()))
        assert stage.tally.requests == number
        assert len(stage.free) == number + 1
    assert stage.tally.bytes == 2 * 304
    assert not stage.tally.errors
    assert (client.since, client.asked) == (0, 0)


def test_frames_are_sent_in_turn_for_ever(stage: Stage) -> None:
    client, server = shaken(stage)
    for _ in range(MASKS + 2):
        client.ask(1, 2)
        echo(stage, server)
    assert stage.tally.requests == MASKS + 2
    assert not stage.tally.errors


def test_a_ping_is_answered(stage: Stage) -> None:
    client, server = shaken(stage)
    server.send_ping(b"there?")
    stage.says(b"".join(server.data_to_send()))
    assert [(one.opcode, one.data) for one in got(stage, server)] == [(Opcode.PONG, b"there?")]
    assert client.stands


def test_a_refused_handshake_is_an_error_and_tried_again_after_a_while(stage: Stage) -> None:
    dialed(stage)
    for number in (1, 2):
        stage.says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        assert stage.tally.errors == {"status 403": number}
        if number == 2:
            stage.due()
        stage.turn()
    assert len(stage.peers) == 3
    assert not stage.free


def test_an_end_in_the_handshake_is_an_error(stage: Stage) -> None:
    dialed(stage)
    stage.heard()
    stage.hangs_up()
    assert stage.tally.errors == {"closed": 1}


def test_an_end_with_nothing_under_way_is_none(stage: Stage) -> None:
    _, server = shaken(stage)
    server.send_close(1001)
    stage.says(b"".join(server.data_to_send()))
    assert not stage.tally.errors
    assert len(stage.peers) == 2


def test_an_end_instead_of_an_echo_is_an_error(stage: Stage) -> None:
    client, server = shaken(stage)
    client.ask(1, 2)
    server.send_close(1012, "bye")
    stage.says(b"".join(server.data_to_send()))
    assert stage.tally.errors == {"closed": 1}
    assert "bye" in stage.tally.texts["closed"]
    assert stage.tally.requests == 0


@pytest.mark.parametrize("asked", [False, True])
def test_what_is_no_echo_is_an_error(stage: Stage, asked: bool) -> None:
    client, server = shaken(stage)
    if asked:
        client.ask(1, 2)
    server.send_text(b"welcome")
    stage.says(b"".join(server.data_to_send()))
    assert stage.tally.errors == {"protocol": 1}


def test_an_echo_of_nothing_is_an_error(stage: Stage) -> None:
    client, _ = shaken(stage)
    stage.says(client._message.whole)
    assert stage.tally.errors == {"protocol": 1}
    assert stage.tally.requests == 0


def test_who_was_answered_is_connected_again_at_once(stage: Stage) -> None:
    client, server = shaken(stage)
    for number in (1, 2, 3):
        client.ask(1, 2)
        echo(stage, server)
        client.ask(1, 2)
        stage.hangs_up()
        assert stage.tally.requests == sum(stage.tally.errors.values()) == number
        assert len(stage.peers) == number + 1
        server = accepted(stage)
    assert not stage.times


def test_two_echoes_of_one_message_are_an_error(stage: Stage) -> None:
    client, server = shaken(stage)
    client.ask(1, 2)
    (frame,) = got(stage, server)
    server.send_text(bytes(frame.data))
    server.send_text(bytes(frame.data))
    stage.says(b"".join(server.data_to_send()))
    assert stage.tally.errors == {"protocol": 1}


def test_an_echo_in_fragments_is_one(stage: Stage) -> None:
    client, server = shaken(stage)
    client.ask(1, 2)
    (frame,) = got(stage, server)
    server.send_text(bytes(frame.data[:7]), fin=False)
    stage.says(b"".join(server.data_to_send()))
    server.send_continuation(bytes(frame.data[7:]), fin=True)
    stage.says(b"".join(server.data_to_send()))
    assert stage.tally.requests == 1
    assert not stage.tally.errors


def test_a_server_that_is_none_is_told_by_what_it_seems(stage: Stage) -> None:
    dialed(stage)
    stage.says(struct.pack("!BHHBB", 0x15, 0x0303, 2, 2, 70))
    assert stage.tally.errors == {"protocol": 1}
    assert "https (or wss)" in stage.tally.texts["protocol"]
