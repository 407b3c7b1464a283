"""The first sentence is the answer; what qualifies it follows."""

from dataclasses import replace

from clusterd.bench.figures import main
from clusterd.bench.load import Load
from clusterd.bench.results import EARLY_END, Event, Report, Search
from clusterd.bench.verdict import verdict
from tests.support import reports


def said(report: Report) -> list[str]:
    return verdict(report, main(report))


def test_workers_against_one_of_them() -> None:
    first, *more = said(reports.report())
    assert first == (
        "4 workers answer 3.65 × as much as 1 worker, at 1.02 × the CPU time a request."
    )
    assert more[0].startswith("The 95 % interval of that is 3.6")
    assert more[1] == "p99 falls from 9.06 ms to 4.15 ms."
    assert more[-1] == "None of 251,848 requests failed."


def test_a_gain_within_the_noise_is_said_to_be_no_more() -> None:
    same = replace(reports.ALL, throughput=10_920.0)
    text = said(reports.report((reports.ONE, same)))[1]
    assert text.startswith("That is no more than the noise between turns: its 95 % interval is")


def test_one_turn_each_does_not_tell_the_noise() -> None:
    text = " ".join(said(reports.report(rounds=1)))
    assert "One turn each does not say how much of that is noise." in text


def test_other_servers_are_told_by_what_ours_answers() -> None:
    text = " ".join(said(reports.crowded()))
    assert "of what 4 workers answer: granian 0.88 ×, uvicorn 0.78 ×" in text


def test_a_search_is_told_by_its_rate() -> None:
    report = reports.ladder_of_rates()
    assert said(report)[0] == (
        "4 workers keep p99<50ms up to 36,400/s, 3.60 × the rate of 1 worker."
    )
    assert said(report)[1] == "How much of that is noise, a search does not say."
    report.searches = [Search("p99<1ms", side.name) for side in report.sides]
    assert said(report)[0] == "No rate keeps p99<1ms."


def test_an_open_loop_is_told_by_its_latency() -> None:
    text = said(reports.chaos())
    assert text[0].startswith("At 8,000/s 1 worker answers with a p99 of 9.")
    assert text[-1] == "Requests failed: 1 worker 128 (0.08 %) and 4 workers 128 (0.08 %)."


def test_a_url_alone_is_told_by_what_it_answers() -> None:
    alone = replace(reports.ONE, name="http://127.0.0.1:8000/", workers=0, command="")
    turn = reports.turn(alone, load=Load(duration=2.0, connections=1))
    text = said(reports.report((alone,), turns=[turn]))
    assert text[0].startswith("http://127.0.0.1:8000/ answers 10,961/s over")
    assert text[0].endswith("over 1 connection, with a p99 of 9.02 ms.")


def test_sides_that_are_not_of_one_kind_are_told_by_the_best() -> None:
    others = reports.OTHERS[:3]
    text = said(reports.report(others))
    assert text[0].startswith("granian answers most, 3")
    assert text[0].endswith("of that 0.89 × for uvicorn and 0.42 × for gunicorn.")


def test_what_was_cut_short_or_never_answered_says_so() -> None:
    assert said(reports.doubtful())[-1].startswith("It ended before its time")
    nothing = reports.report(rounds=1)
    for turn in nothing.turns:
        turn.requests = 0
    assert said(nothing) == ["Nothing was answered."]
    for turn in nothing.turns:
        turn.errors, turn.texts = {"reset": 340, "timeout": 2}, {"reset": "does it speak TLS?"}
    assert said(nothing) == ["Nothing was answered; 680 × reset: does it speak TLS?"]
    assert said(reports.report(turns=[])) == ["Nothing was answered."]


def test_a_change_of_latency_that_turns_contradict_is_said_to_be_so() -> None:
    report = reports.report()
    slower = replace(reports.ALL, median=8_000.0)
    report.turns[3] = reports.turn(slower, 2)
    text = " ".join(said(report))
    assert "ms, which single turns contradict." in text


def test_an_open_loop_that_loses_requests_has_no_p99() -> None:
    load = Load(duration=1.0, rate=1000.0)
    turns = [reports.turn(shape, load=load) for shape in (reports.ONE, reports.ALL)]
    turns[0].errors = {"reset": 20}
    first = said(reports.report(turns=turns))[0]
    assert first.startswith("At 1,000/s 1 worker leaves more than 1 % without an answer and 4 ")


def test_each_side_is_told_with_the_rate_that_speaks_for_it() -> None:
    loads = [Load(duration=1.0, rate=rate) for rate in (5_000.0, 20_000.0)]
    pairs = [(reports.ONE, loads[0]), (reports.ALL, loads[1])]
    text = said(reports.report(turns=[reports.turn(shape, load=load) for shape, load in pairs]))
    assert text[0].startswith("At 5,000/s 1 worker answers with a p99 of ")
    assert "; at 20,000/s 4 workers answer with a p99 of " in text[0]


def test_a_rate_beyond_what_a_server_can_do_is_no_success() -> None:
    load = Load(duration=1.0, rate=50_000.0)
    turn = reports.turn(reports.ALL, load=load)
    turn.moments[-1].behind = 20_000
    text = said(reports.report((reports.ALL,), turns=[turn]))
    assert text[0].startswith("At 50,000/s 4 workers answer only 3")
    assert text[-1].endswith(" failed, but 20,000 were never answered.")


def test_a_server_that_died_is_not_the_best() -> None:
    others = reports.OTHERS[:2]
    turns = [reports.turn(shape) for shape in others]
    turns[1].partial = True
    turns[1].events.append(Event(0.5, "died", "the server exited with 7\nIt said: ..."))
    text = said(reports.report(others, turns=turns))
    assert text[0].startswith("gunicorn answers 1")
    assert text[1].startswith("uvicorn did not last: the server exited with 7; it answered 3")


def test_one_that_died_has_gained_nothing_over_another() -> None:
    report = reports.report()
    report.turns[0].events.append(Event(0.5, "died", "the server exited with 7"))
    text = said(report)
    assert text[0].startswith("4 workers answer 3")
    assert "1 worker did not last" in text[1]
    assert "as much as" not in " ".join(text)


def test_searches_that_were_broken_off_are_not_compared() -> None:
    report = reports.ladder_of_rates()
    report.interrupted, report.searches[1].bounded_by = True, EARLY_END
    text = said(report)
    assert text[0].startswith("p99<50ms is kept up to: 1 worker 1")
    assert text[-1].startswith("It ended before its time")
