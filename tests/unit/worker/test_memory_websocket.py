"""The memory budget over WebSockets: messages half and whole, compressed, and not read.

And the time that half a message may take.
"""

import gc
import random
import zlib
from typing import Any

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate

from clusterd.config.serving import HttpSettings, WebsocketSettings
from clusterd.wire import websocket as wire
from clusterd.wire.websocket import FREE, RATIO
from clusterd.worker.deadlines import RATE
from clusterd.worker.memory_budget import GRACE, LOOK
from clusterd.worker.websocket_ending import FAREWELL
from tests.unit.wire.frames import Ear, frame
from tests.unit.worker.fakes import FakeTransport, run
from tests.unit.worker.sockets import BINARY, DEFAULTS, FINAL, TEXT, Deaf, Scribe, Talk, shake, text

KIB, MIB = 1024, 2**20
HTTP = HttpSettings(memory_budget=1024 * KIB)
RSV1 = 0x40
NO_PINGS = WebsocketSettings(websocket_ping_interval=0)


def packed(data: bytes) -> bytes:
    """As permessage-deflate sends a message with a window of 4 kB."""
    packer = zlib.compressobj(wbits=-12)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


class Party(Talk):
    """Many clients of one worker."""

    def __init__(self, app: Any, http: HttpSettings = HTTP) -> None:
        super().__init__(app, DEFAULTS, http)
        self.guests: list[tuple[FakeTransport, Any]] = []

    async def join(self, *pieces: bytes, compresses: bool = False) -> FakeTransport:
        """A new client sends this, as far as it is read."""
        transport, connection = self.connect()
        before = set(self.server.connections)
        offer = ["Sec-WebSocket-Extensions: permessage-deflate"] if compresses else []
        connection.data_received(shake("/", *offer))
        (link,) = set(self.server.connections) - before
        await self.settle()
        for piece in pieces:
            if not transport.paused:
                transport.protocol.data_received(piece)
                await self.settle()
        self.guests.append((transport, link))
        return transport

    def code(self, transport: FakeTransport) -> int:
        """The close code that a client was sent, 0 for none."""
        _, _, frames = bytes(transport.sent).partition(b"\r\n\r\n")
        at = frames.rfind(b"\x88")
        return int.from_bytes(frames[at + 2 : at + 4]) if at >= 0 else 0

    @property
    def codes(self) -> list[int]:
        """What clients were told, once apps had time for what came before."""
        self.pass_time(FAREWELL + 1)
        return [self.code(transport) for transport, _ in self.guests]


def test_half_messages_and_whole_ones_are_counted() -> None:
    async def test() -> None:
        party = Party(Deaf())
        held = party.server.memory
        half = frame(FINAL | BINARY, bytes(300 * KIB))[: 100 * KIB]
        await party.join(half)
        assert 100 * KIB <= held.held < 130 * KIB
        await party.join(frame(BINARY, bytes(100 * KIB)))
        assert 200 * KIB <= held.held < 260 * KIB
        await party.join(frame(FINAL | BINARY, bytes(100 * KIB)))
        assert 300 * KIB <= held.held < 390 * KIB
        for transport, _ in party.guests:
            transport.protocol.connection_lost(None)
        assert 100 * KIB <= held.held < 130 * KIB, "the whole one is for the application"
        for task in list(party.server.tasks):
            task.cancel()
        await party.settle()
        assert held.held == 0

    run(test)


def test_messages_whose_client_is_gone_count_until_the_app_has_received_them() -> None:
    async def test() -> None:
        deaf = Deaf()
        party = Party(deaf)
        held = party.server.memory
        transport = await party.join(frame(FINAL | BINARY, bytes(100 * KIB)))
        transport.protocol.connection_lost(None)
        assert held.held > 100 * KIB
        deaf.take.set()
        await party.settle()
        assert [len(message["bytes"]) for message in deaf.received] == [100 * KIB]
        party.now += LOOK
        party.server.publish()
        assert held.held == 0

    run(test)


def test_half_a_message_goes_with_its_client_though_the_app_stays() -> None:
    async def test() -> None:
        party = Party(Deaf())
        transport = await party.join(frame(BINARY, bytes(100 * KIB)))
        transport.protocol.connection_lost(None)
        assert party.guests[0][1].measure() < KIB

    run(test)


def test_of_what_broke_the_protocol_nothing_is_kept_but_how() -> None:
    async def test() -> None:
        party = Party(Deaf())
        bomb = frame(FINAL | RSV1 | BINARY, packed(bytes(2 * MIB)))
        await party.join(bomb, compresses=True)
        link = party.guests[0][1]
        assert link._violation is not None, "the application has not asked yet"
        assert link._violation.__traceback__ is None, "its frames have what was read"
        assert link._deflate is None
        assert not [one for one in gc.get_objects() if isinstance(one, PerMessageDeflate)]

    gc.collect()
    run(test)


def test_messages_whose_client_is_gone_are_given_up_where_memory_is_short() -> None:
    async def test() -> None:
        deaf = Deaf()
        party = Party(deaf)
        transport = await party.join(frame(FINAL | BINARY, bytes(450 * KIB)))
        transport.protocol.connection_lost(None)
        party.guests.clear()
        half = frame(FINAL | BINARY, bytes(500 * KIB))[: 200 * KIB]
        await party.join(half)
        await party.join(half)
        assert party.server.memory.is_short
        await party.pass_with_budget(GRACE + 3 * LOOK)
        assert 400 * KIB < party.server.memory.held < 430 * KIB
        deaf.take.set()
        await party.settle()
        assert deaf.received == []
        assert party.codes == [0, 0]

    run(test)


@pytest.mark.parametrize("end", ["lost", "closed", "timed out", "broken"])
def test_a_connection_that_is_over_keeps_no_page_of_its_buffer(end: str) -> None:
    """An application that never returns keeps the connection's objects."""

    async def test() -> None:
        party = Party(Deaf())
        data = bytes(100 * KIB)
        whole, half = frame(FINAL | BINARY, data), frame(FINAL | BINARY, data)[: 90 * KIB]
        transport = await party.join(whole + half if end == "broken" else half)
        (_, link) = party.guests[0]
        assert link._buffer.__alloc__() > 64 * KIB
        if end == "lost":
            transport.protocol.connection_lost(None)
        elif end == "closed":
            transport.protocol.eof_received()
        elif end == "timed out":
            link._fail(wire.TOO_SLOW, "")
        else:
            link._break(wire.Violation(wire.BROKEN, ""))
        assert link._buffer.__alloc__() == 0, "1 after clear(), which realloc keeps a page for"

    run(test)


def test_a_text_counts_as_it_is_in_memory() -> None:
    async def test() -> None:
        party = Party(Deaf(), HttpSettings(memory_budget=8 * MIB))
        wide = ("a" * 100_000 + "\N{GRINNING FACE}").encode()
        await party.join(frame(FINAL | TEXT, wide))
        assert party.server.memory.held > 400_000

    run(test)


def test_what_the_app_took_is_held_no_more_and_small_messages_are_not_counted() -> None:
    async def test() -> None:
        scribe = Scribe()
        party = Party(scribe)
        whole = frame(FINAL | BINARY, bytes(100 * KIB))
        transport = await party.join(whole[:90_000], whole[90_000:], text("small"))
        assert len(scribe.received) == 3
        party.now += LOOK
        party.server.publish()
        assert party.server.memory.held == 0
        assert not transport.paused

    run(test)


def test_messages_beyond_the_budget_are_refused_with_1013_and_small_ones_served() -> None:
    async def test() -> None:
        party = Party(Deaf())
        half = frame(FINAL | BINARY, bytes(500 * KIB))[: 250 * KIB]
        for _ in range(8):
            await party.join(half)
            assert party.server.memory.held <= 1024 * KIB
        assert set(party.codes) == {0, 1013}
        party.server.app = scribe = Scribe()
        await party.join(text("hello"))
        assert scribe.received[1]["text"] == "hello"

    run(test)


def test_stalled_messages_go_and_the_others_are_read_again() -> None:
    async def test() -> None:
        party = Party(Deaf())
        half = frame(FINAL | BINARY, bytes(500 * KIB))[: 220 * KIB]
        for _ in range(4):
            transport = await party.join(half)
        assert transport.paused
        await party.pass_with_budget(GRACE + 3 * LOOK)
        assert sorted(party.codes) == [0, 0, 0, 1013]
        assert not any(t.paused for t, _ in party.guests)

    run(test)


def test_it_stays_unread_while_memory_is_short_though_the_app_asks_for_more() -> None:
    async def test() -> None:
        deaf = Deaf()
        party = Party(deaf)
        whole = frame(FINAL | BINARY, bytes(105 * KIB))
        for _ in range(8):
            transport = await party.join(whole)
        deaf.take.set()
        await party.settle()
        assert len(deaf.received) == 8
        assert transport.paused
        await party.pass_with_budget(2 * LOOK)
        assert not transport.paused
        assert party.codes == [0] * 8

    run(test)


def test_messages_that_the_app_does_not_take_go_beyond_the_budget() -> None:
    async def test() -> None:
        party = Party(Deaf())
        for _ in range(20):
            await party.join(frame(FINAL | BINARY, bytes(200 * KIB)))
            assert party.server.memory.held <= 1024 * KIB
        assert set(party.codes) == {0, 1013}

    run(test)


def test_a_client_that_reads_nothing_is_reset_where_memory_is_short() -> None:
    async def test() -> None:
        party = Party(Scribe("x" * 1100 * KIB))
        transports = []
        for _ in range(4):
            transport, connection = party.connect()
            transports.append(transport)
            transport.stuck = True
            connection.data_received(shake())
            await party.settle()
        assert [transport.aborted for transport in transports].count(True) == 1

    run(test)


def test_compressed_messages_find_room_or_are_refused() -> None:
    async def test() -> None:
        party = Party(Deaf(), HttpSettings(memory_budget=6 * MIB))
        bomb = frame(FINAL | RSV1 | BINARY, packed(bytes(MIB)))
        assert len(bomb) < 2000
        for _ in range(12):
            await party.join(bomb, compresses=True)
            assert party.server.memory.held <= 6 * MIB
        assert set(party.codes) == {0, 1013}
        assert party.codes.count(0) >= 2

    run(test)


def test_a_message_finds_room_for_its_copies_or_is_refused() -> None:
    async def test() -> None:
        party = Party(Deaf(), HttpSettings(memory_budget=10 * MIB))
        for data, codes in {
            bytes(4 * MIB): [0],
            bytes(6 * MIB): [1013],  # and 6 of its own
            ("a" * 2 * MIB).encode(): [0],
            ("a" * 2 * MIB + "\N{GRINNING FACE}").encode(): [1013],  # 8 and 2
            ("a" * 2 * MIB + "é").encode(): [0],
        }.items():
            party.guests.clear()
            kind = TEXT if data[0] else BINARY
            whole = frame(FINAL | kind, data)
            await party.join(whole[:MIB], whole[MIB:])
            assert party.codes == codes, (len(data), kind)
            party.guests[0][0].protocol.connection_lost(None)
            for task in list(party.server.tasks):
                task.cancel()
            await party.settle()

    run(test)


def test_half_a_message_counts_as_long_as_it_has_become() -> None:
    async def test() -> None:
        party = Party(Deaf(), HttpSettings(memory_budget=6 * MIB))
        tail = b"\0\0\xff\xff"  # which only the end of a message lacks
        await party.join(frame(RSV1 | BINARY, packed(bytes(MIB)) + tail), compresses=True)
        assert party.server.memory.held > MIB + 32 * KIB, "and the window"

    run(test)


def test_nothing_is_kept_of_what_was_given_up() -> None:
    async def test() -> None:
        party = Party(Deaf(), HttpSettings(memory_budget=6 * MIB))
        whole, half = frame(FINAL | BINARY, bytes(100 * KIB)), frame(BINARY, bytes(50 * KIB))
        await party.join(whole)
        await party.join(half)
        await party.join(half + b"\xff\xff", whole)  # breaks the protocol while the app is busy
        (_, first), (_, second), (_, third) = party.guests
        first.shed()
        second.shed()
        assert [link.measure() < 1000 for link in (first, second, third)] == [True] * 3
        assert party.codes == [1013, 1013, 1002]

    run(test)


def test_before_the_handshake_is_answered_there_is_nothing_to_say() -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await party.server.loop.create_future()

        party = Party(app)
        transport = await party.join()
        party.guests[0][1].shed()
        assert transport.aborted
        assert not transport.sent

    run(test)


# --- how long half a message may take


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (frame(FINAL | BINARY, bytes(90_000))[:100], b"x"),
        (frame(BINARY, b"half"), b""),
        (frame(BINARY, b"half"), frame(0, b"")),
        (frame(FINAL | BINARY, bytes(90_000))[:100], b"x" * (RATE - 20)),
    ],
)
def test_half_a_message_that_makes_no_progress_is_closed_with_1008(
    first: bytes, again: bytes
) -> None:
    async def test() -> None:
        talk = Talk(Scribe(), NO_PINGS)
        await talk.begin()
        await talk.say(first)
        began = talk.now
        while not talk.socket.is_closing:
            talk.pass_time(1)
            if again and not talk.socket.is_closing:
                talk.feed(again)
            assert talk.now - began < 400
        assert talk.now - began > 30
        assert talk.got()[-1][0] == 1008

    run(test)


def test_a_message_that_comes_steadily_or_is_over_has_all_the_time() -> None:
    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe, NO_PINGS)
        await talk.begin()
        whole = frame(FINAL | BINARY, bytes(15_000))
        for at in range(0, len(whole), 10 * (RATE + 10)):
            talk.pass_time(10)
            talk.feed(whole[at : at + 10 * (RATE + 10)])
        await talk.settle()
        assert len(scribe.received) == 2
        talk.pass_time(1000)
        assert not talk.socket.is_closing

    run(test)


def test_an_app_that_does_not_take_messages_is_not_the_clients_fault() -> None:
    async def test() -> None:
        talk = Talk(Deaf(), NO_PINGS)
        await talk.begin()
        await talk.say(frame(FINAL | BINARY, bytes(70_000)) + frame(BINARY, b"half"))
        talk.pass_time(1000)
        talk.pass_time(1000)
        assert not talk.socket.is_closing

    run(test)


def test_nor_is_a_worker_that_does_not_read() -> None:
    async def test() -> None:
        talk = Talk(Scribe(), NO_PINGS)
        await talk.begin()
        await talk.say(frame(BINARY, b"half"))
        talk.server.memory.stopped.add(talk.socket)
        talk.pass_time(1000)
        assert not talk.socket.is_closing

    run(test)


# --- what may become of what was compressed


class Narrow(Ear):
    """A reader that has room for any message, and little to spare."""

    def room(self) -> int:
        return 50 * MIB


def test_where_there_is_room_to_spare_a_message_becomes_as_long_as_it_may() -> None:
    ear = Ear(limit=16 * MIB, compresses=True)
    whole = bytes(16 * MIB)
    assert ear.take(frame(FINAL | RSV1 | BINARY, packed(whole))) == [whole]
    three = Narrow(limit=16 * MIB, compresses=True)
    assert three.take(frame(FINAL | RSV1 | BINARY, packed(whole[: 3 * MIB]))) == [whole[: 3 * MIB]]


def test_a_message_becomes_so_many_times_as_long_at_most() -> None:
    data = bytes(4 * FREE)
    assert len(packed(data)) < len(data) / RATIO
    ear = Narrow(limit=16 * MIB, compresses=True)
    assert ear.take(frame(FINAL | RSV1 | BINARY, packed(data))) == [1009]
    ear = Narrow(limit=16 * MIB, compresses=True)
    assert ear.take(frame(FINAL | RSV1 | BINARY, packed(data[:FREE]))) == [data[:FREE]]


def test_what_is_worth_compressing_gets_through() -> None:
    chance = random.Random(1)
    rows = b"".join(b'{"id":%d,"ok":true},' % chance.randrange(10**6) for _ in range(200_000))
    ear = Narrow(limit=16 * MIB, compresses=True)
    assert len(rows) > 3 * FREE
    assert ear.take(frame(FINAL | RSV1 | BINARY, packed(rows))) == [rows]


def test_fragments_count_together() -> None:
    """Else each of them had a megabyte for nothing."""
    packer = zlib.compressobj(wbits=-12)
    pieces = [packer.compress(bytes(FREE)) + packer.flush(zlib.Z_SYNC_FLUSH) for _ in range(5)]
    ear = Narrow(limit=16 * MIB, compresses=True)
    assert ear.take(frame(RSV1 | BINARY, pieces[0])) == []
    assert ear.take(*[frame(0, piece) for piece in pieces[1:]]) == [1009]


def test_each_message_is_judged_by_what_came_of_itself() -> None:
    chance = random.Random(1).randbytes(30_000)
    packer = zlib.compressobj(wbits=-12)
    first = packer.compress(chance) + packer.flush(zlib.Z_SYNC_FLUSH)
    second = packer.compress(bytes(4 * FREE)) + packer.flush(zlib.Z_SYNC_FLUSH)
    ear = Narrow(limit=16 * MIB, compresses=True)
    assert ear.take(frame(FINAL | RSV1 | BINARY, first[:-4])) == [chance]
    assert ear.take(frame(FINAL | RSV1 | BINARY, second[:-4])) == [chance, 1009]


class Tight(Ear):
    """A reader that has little room."""

    def room(self) -> int:
        return 250_000


def test_what_there_is_no_room_for_is_refused_before_it_is_made() -> None:
    for size, heard in {80_000: [bytes(80_000)], 90_000: [1013]}.items():
        ear = Tight(limit=MIB, compresses=True)
        assert ear.take(frame(FINAL | RSV1 | BINARY, packed(bytes(size)))) == heard
    for size, heard in {120_000: [bytes(120_000)], 130_000: [1013]}.items():
        half = frame(BINARY, bytes(60_000))
        last = frame(FINAL, bytes(size - 60_000))
        assert Tight(limit=MIB).take(half + last) == heard
        assert Tight(limit=MIB).take(frame(FINAL | BINARY, bytes(size))) == heard


def test_a_limit_below_that_still_holds() -> None:
    ear = Ear(limit=1000, compresses=True)
    assert ear.take(frame(FINAL | RSV1 | BINARY, packed(bytes(1001)))) == [1009]
    assert wire.TRY_LATER == 1013
