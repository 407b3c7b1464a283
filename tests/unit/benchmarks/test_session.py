"""Who takes part: those that are asked for, with their variants, and can run at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import servers, turns
from benchmarks.clients import Ask
from benchmarks.environment import Environment
from benchmarks.outcome import Outcome
from benchmarks.run import _run_one
from benchmarks.scenarios import lazy_imports
from benchmarks.session import Session
from benchmarks.turns import Contest, Measure


def session(*only: str, **versions: str) -> Session:
    return Session(Environment("python", versions), only, rounds=2, smoke=False)


def test_a_server_is_asked_for_with_its_variants() -> None:
    """`--servers clusterd` means clusterd with TLS too, and no other row that happens to run."""
    rows = (servers.CLUSTERD, servers.CLUSTERD_TLS, servers.UVICORN_TLS, servers.CLUSTERD_UNGATED)
    assert session("clusterd").among(*rows) == [servers.CLUSTERD, servers.CLUSTERD_TLS]
    assert session("uvicorn-tls").among(*rows) == [servers.UVICORN_TLS]


def test_what_is_not_installed_takes_no_part() -> None:
    """Node and freastal are not everywhere."""
    assert session().among(servers.FREASTAL) == []
    assert session(freastal="0.0.3").among(servers.FREASTAL) == [servers.FREASTAL]


def test_each_row_is_named_once() -> None:
    """Samples are kept by name."""
    names = [server.name for server in servers.TABLE]
    assert len(set(names)) == len(names)


class Idle:
    """A server that needs no process."""

    def __init__(self, server: servers.Server) -> None:
        self.server = server

    def __enter__(self) -> "Idle":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def only_worker(self) -> int:
        return 1


@contextmanager
def contest(monkeypatch: pytest.MonkeyPatch, failing: servers.Server) -> Iterator[Contest]:
    asked = 0

    def cost(running: Idle, *_: object) -> tuple[float, float]:
        nonlocal asked
        asked += 1
        if running.server is failing and asked > 8:
            raise OSError("it broke")
        return 1.0, 1.0

    monkeypatch.setattr(turns, "cost", cost)
    monkeypatch.setattr(Session, "start", lambda _, server, *__, **___: Idle(server))
    measures = {"hello": Measure(Ask(b""))}
    wanted = [(servers.CLUSTERD, "plain"), (servers.UVICORN, "plain")]
    yield Contest(session(), Outcome({"hello": "µs"}), wanted, measures)


def test_a_peer_that_breaks_is_left_out_of_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its samples would be paired with those of other turns."""
    with contest(monkeypatch, servers.UVICORN) as held:
        held.hold(rounds=2, turns=2)
        assert list(held.outcome.samples) == ["clusterd"]
        assert len(held.outcome.of("clusterd", "hello")) == 4
        assert "it broke" in held.outcome.notes[0]


def test_our_own_failure_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark that leaves clusterd out would say nothing."""
    with contest(monkeypatch, servers.CLUSTERD) as held, pytest.raises(OSError, match="it broke"):
        held.hold(rounds=2, turns=2)


@pytest.mark.parametrize(
    ("versions", "missing"),
    [
        ({"python": "3.14.8 (plain build)"}, "3.15 or newer, and this is 3.14.8"),
        ({"python": "3.15.0", "numpy": "2.4"}, "matplotlib not installed"),
        ({}, "3.15 or newer"),
    ],
)
def test_lazy_imports_are_measured_only_where_there_are_any(
    versions: dict[str, str], missing: str
) -> None:
    outcome = lazy_imports.run(session(**versions))
    assert outcome.samples == {}
    assert missing in outcome.notes[0]


def test_a_scenario_that_cannot_run_here_keeps_its_record(tmp_path: Path) -> None:
    assert _run_one("lazy_imports", session(), tmp_path)
    assert list(tmp_path.iterdir()) == []
