"""How a run ends: what could not be measured is said, and makes the status 1."""

import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from clusterd.bench.chaos import Havoc
from clusterd.bench.errors import ServerFailed
from clusterd.bench.ladders import Connections, Fixed
from clusterd.bench.load import Load
from clusterd.bench.progress import CLEAR
from clusterd.bench.results import Event, Report, Side, Turn
from clusterd.bench.rounds import Played
from clusterd.cli.bench_plan import Asked
from clusterd.cli.bench_run import Measuring, trouble

LOAD = Load()
ASKED = Asked("http://a/", None, None, [Side("a")], LOAD, Fixed((LOAD,)), 1, Havoc())


def turn(**fields: object) -> Turn:
    made = Turn("a", 1, LOAD, seconds=1.0, requests=10)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def ended(*turns: Turn, asked: Asked = ASKED, interrupted: bool = False) -> int:
    report = Report("http://a/", "", turns=list(turns), interrupted=interrupted)
    return trouble(asked, report, Played(list(turns)))


def test_all_is_well_where_answers_came(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(turn(errors={"reset": 3})) == 0
    assert not capsys.readouterr().err


def test_a_server_that_died_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    died = [Event(0.5, "died", "exited with 3. It said nothing.")]
    assert ended(turn(events=died, partial=True, requests=0)) == 1
    assert capsys.readouterr().err == "clusterd: a: exited with 3. It said nothing.\n"


def test_a_turn_without_answers_says_what_it_met(capsys: pytest.CaptureFixture[str]) -> None:
    errors, texts = {"reset": 9, "connect": 1}, {"reset": "does it speak TLS?"}
    silent = turn(requests=0, errors=errors, texts=texts)
    assert ended(silent, turn(requests=0)) == 1
    assert capsys.readouterr().err.splitlines() == [
        "clusterd: a: nothing was answered, and what failed most was: reset (does it speak TLS?)",
        "clusterd: a: nothing was answered",
    ]


def test_a_ladder_may_end_where_nothing_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    ladder = replace(ASKED, plan=Connections(LOAD, 1, 64))
    assert ended(turn(), turn(requests=0), asked=ladder) == 0
    assert not capsys.readouterr().err


def test_what_was_cut_short_or_left_out_is_a_failure() -> None:
    assert ended(turn(partial=True)) == 1
    failed = Played([turn()], [("b", ServerFailed("b exited with 3"))])
    assert trouble(ASKED, Report("", "", turns=failed.turns), failed) == 1
    assert ended(turn(requests=0, partial=True), interrupted=True) == 1


def test_a_report_notes_which_side_failed_and_of_what() -> None:
    asked = replace(ASKED, notes=["a note"])
    played = Played([turn()], [("b", ServerFailed("b exited with 3"))])
    assert Measuring(asked).report(played).notes == ["a note", "b exited with 3"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_half_line_stays_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was stopped before the first turn."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    measuring = Measuring(ASKED)
    assert measuring.play(SimpleNamespace(came=True)).interrupted  # type: ignore[arg-type]
    assert terminal.getvalue().endswith(CLEAR)
