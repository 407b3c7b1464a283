"""A figure that is not the server's alone is not left to stand; one that is gets no doubt."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from clusterd.bench import doubts
from clusterd.bench.histogram import Histogram
from clusterd.bench.load import Load
from clusterd.bench.results import GeneratorUse, Moment, Turn

EACH = 2_500  # answers an interval: 10,000/s


def sound(rate: float = 10_000.0, fresh: bool = False) -> Turn:
    """Ten seconds of which nothing can be said, the first half second cut off."""
    moments = [
        Moment(n, requests=EACH, latency=Histogram.of({1_000: EACH}), connections=64)
        for n in range(40)
    ]
    return Turn(
        side="1 worker",
        round=1,
        load=Load(rate=rate, fresh=fresh),
        seconds=9.5,
        warmup=2,
        requests=38 * EACH,
        latency=Histogram.of({1_000: 37 * EACH, 3_000: EACH}),
        lag=Histogram.of({5: 38 * EACH}) if rate else None,
        connections=64,
        moments=moments,
        generator=GeneratorUse(processes=1, cpu=4.0, busiest=0.4),
    )


def said(turn: Turn, words: str) -> bool:
    """Whether one doubt, and only that, is about it."""
    found = doubts.doubts(turn)
    return len(found) == 1 and words in found[0]


@pytest.mark.parametrize("rate", [0.0, 10_000.0])
def test_a_sound_turn_has_none(rate: float) -> None:
    assert doubts.doubts(sound(rate)) == []


def busy(turn: Turn) -> None:
    turn.generator = GeneratorUse(2, 18.0, 0.97)


def shared(turn: Turn) -> None:
    turn.generator = GeneratorUse(1, 4.0, 0.4, shared=True)


def late(turn: Turn) -> None:
    turn.lag = Histogram.of({5: 37 * EACH, 4_000: EACH})


def partial(turn: Turn) -> None:
    turn.partial = True


def waited(turn: Turn) -> None:
    turn.waited = turn.requests // 8


def open_at_the_end(turn: Turn) -> None:
    turn.unanswered, turn.moments[-1].behind = 64, 2_000


def too_few_connections(turn: Turn) -> None:
    turn.connections = 40


def refusals(turn: Turn) -> None:
    turn.errors = {"status 503": turn.requests // 3}


def lost(turn: Turn) -> None:
    turn.errors = {"timeout": 3}


def quiet(turn: Turn) -> None:
    for moment in turn.moments[20:24]:
        moment.requests, moment.latency = 0, Histogram()
    for moment in turn.moments[24:26]:
        moment.requests = 3 * EACH


def rising(turn: Turn) -> None:
    for moment in turn.moments[2:]:
        moment.requests = EACH // 2 + EACH * moment.number // 38


def early_errors(turn: Turn) -> None:
    turn.moments[1].errors = {"reset": 4}


def early_slowness(turn: Turn) -> None:
    turn.moments[0].latency.record({1_200_000: 1})


def short(turn: Turn) -> None:
    turn.moments, turn.warmup, turn.seconds = turn.moments[:3], 0, 0.75
    turn.requests, turn.latency = 3 * EACH, Histogram.of({1_000: 3 * EACH})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (busy, "the generator was the bottleneck: its busiest process used 97 % of a core"),
        (shared, "shared cores"),
        (late, "sent 4.00 ms or more after they were due"),
        (partial, "ended before its time"),
        (waited, "12 % of the requests waited for one of 64 connections"),
        (open_at_the_end, "2,064 requests were never answered, 2,000 of them not even sent"),
        (too_few_connections, "40 of 64 connections were held"),
        (refusals, "33 % of the answers were errors (status 503)"),
        (lost, "3 requests were never answered"),
        (quiet, "nothing was answered for 1 s, from 5 s on"),
        (rising, "throughput went up"),
        (early_errors, "the warm-up of 0.5 s, which is in no figure, had 4 errors"),
        (early_slowness, "had a request of 1.20 s"),
        (short, "only 0.75 s were measured"),
    ],
)
def test_each_reason_to_doubt_is_told(spoil: Callable[[Turn], None], words: str) -> None:
    turn = sound()
    spoil(turn)
    assert said(turn, words), doubts.doubts(turn)


def test_a_closed_loop_says_that_it_hides_a_stall() -> None:
    turn = sound(rate=0.0)
    quiet(turn)
    assert said(turn, "a closed loop asks nothing meanwhile")


def test_of_fewer_than_ten_answers_a_second_pauses_are_to_be_expected() -> None:
    turn = sound()
    quiet(turn)
    turn.requests = round(10 * turn.seconds)
    assert "nothing was answered for 1 s" in " ".join(doubts.doubts(turn))
    turn.requests -= 1
    assert "nothing was answered" not in " ".join(doubts.doubts(turn))


def test_a_server_that_does_not_keep_up_is_named() -> None:
    turn = sound(rate=12_000.0)
    assert said(
        turn, "10,000/s were answered of 12,000/s that were due: the server did not keep up"
    )


def test_what_was_due_when_it_was_cut_short_is_not_among_the_lost() -> None:
    turn = sound()
    turn.partial, turn.errors, turn.moments[-1].behind = True, {"reset": 3}, 1_000
    told = " ".join(doubts.doubts(turn))
    assert "3 requests were never answered" in told
    assert "not even sent" not in told


def starved(turn: Turn) -> None:
    turn.moments[5].errors = turn.errors = {"limit": 7}


def test_ports_that_run_out_are_not_held_against_the_server() -> None:
    turn = sound(rate=0.0)
    starved(turn)
    assert said(turn, "7 connections could not be tried")


def test_a_generator_that_does_not_keep_up_is_named() -> None:
    """However little CPU it had: where others took it, it was late."""
    for spoil in (busy, late, starved):
        turn = sound(rate=12_000.0)
        spoil(turn)
        assert any("the generator could not send more" in one for one in doubts.doubts(turn))
        assert not any("server did not keep up" in one for one in doubts.doubts(turn))


def test_lateness_that_latencies_hide_is_no_doubt() -> None:
    turn = sound()
    turn.lag = Histogram.of({5: 37 * EACH, 4_000: EACH})
    turn.latency = Histogram.of({1_000: 37 * EACH, 50_000: EACH})
    assert doubts.doubts(turn) == []


def test_requests_under_way_for_their_latency_were_not_lost() -> None:
    """At 10,000/s and 2 s each, 10,000 are under way a second after the end."""
    turn = sound()
    turn.latency = Histogram.of({2_000_000: 38 * EACH})
    turn.unanswered = 10_000
    assert doubts.doubts(turn) == []


def test_a_connection_for_each_request_is_not_held() -> None:
    turn = sound(fresh=True)
    turn.connections = 3
    assert doubts.doubts(turn) == []


def test_what_waits_to_connect_is_no_request_that_was_lost() -> None:
    turn = sound()
    turn.errors = {"connect": 5}
    assert doubts.doubts(turn) == []
    turn.load = replace(turn.load, fresh=True)
    assert said(turn, "5 requests were never answered")


def test_few_requests_do_not_carry_p99() -> None:
    turn = sound(rate=40.0)
    turn.requests, turn.latency = 380, Histogram.of({1_000: 380})
    turn.lag = Histogram.of({5: 380})
    for moment in turn.moments:
        moment.requests, moment.latency = 10, Histogram.of({1_000: 10})
    assert said(turn, "only 380 latencies were measured: p99 takes 1,000")


def test_a_slow_trickle_has_intervals_without_an_answer() -> None:
    """Two a second: nothing for half a second is no stall."""
    turn = sound(rate=2.0)
    turn.requests, turn.latency, turn.lag = 19, Histogram.of({1_000: 19}), Histogram.of({5: 19})
    for moment in turn.moments:
        moment.requests = int(moment.number % 2 == 0)
        moment.latency = Histogram.of({1_000: moment.requests})
    assert said(turn, "only 19 latencies")


def test_a_warm_up_that_never_ended_is_told() -> None:
    turn = sound(rate=0.0)
    for moment in turn.moments[26:]:
        moment.requests, moment.latency = 2 * EACH, Histogram.of({500: 2 * EACH})
    assert any("the warm-up never ended" in one for one in doubts.doubts(turn))


def test_nothing_answered_is_told_first_of_all() -> None:
    turn = Turn("1 worker", 1, Load(), seconds=2.0, errors={"connect": 10})
    assert said(turn, "nothing was answered")


def test_where_nothing_was_answered_neither_schedule_nor_warm_up_is_to_blame() -> None:
    turn = sound()
    turn.requests, turn.latency, turn.errors = 0, Histogram(), {"reset": 38 * EACH}
    turn.lag = Histogram.of({4_000: 38 * EACH})
    for moment in turn.moments:
        moment.requests, moment.latency = 0, Histogram()
    told = " ".join(doubts.doubts(turn))
    assert "nothing was answered" in told
    assert "the generator" not in told
    assert "warm-up" not in told


def test_an_empty_turn_is_borne() -> None:
    assert doubts.doubts(Turn("1 worker", 1, Load(rate=5.0))) == ["nothing was answered"]
