"""The README's table says what was recorded, and a dash where nothing was."""

from typing import Any

from benchmarks import versus


def result(**samples: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "samples": samples,
        "machine": {"cores": 2, "cpu": "a processor"},
        "versions": {"python": "3.13.0"},
        "date": "2026-01-02T03:04:05+00:00",
    }


def measured(requests: float, p99: float, cpu: float) -> dict[str, list[float]]:
    return {
        "requests": [requests - 1, requests, requests + 5],
        "p50": [1.5],
        "p99": [p99],
        "CPU": [cpu],
    }


def test_a_row_has_both_sides_and_how_much_faster_the_cluster_is() -> None:
    recorded = result(
        **{
            "cpu5, ASGI, 1 worker": measured(200, 40.5, 5000),
            "cpu5, ASGI, 2 workers": measured(390, 20.25, 5050),
        }
    )
    head, _, row, _, machine = versus.table(recorded)
    assert "| 1 worker | 2 workers |" in head
    assert row == (
        "| **cpu5**: 5 ms of computing | 200 | 390 | × 1.95 | 1.5 / 40.5 | 1.5 / 20.2 "
        "| 5000 | 5050 |"
    )
    assert "2 cores of a processor, Python 3.13.0, 2026-01-02" in machine


def test_interfaces_and_peers_stand_below_their_workload() -> None:
    """In the order of the table, whatever the order of the runs was."""
    names = ["cpu5, ASGI", "hello, WSGI", "hello, ASGI", "hello, ASGI, uvicorn"]
    recorded = result(**{f"{name}, 1 worker": measured(10, 1, 1) for name in names})
    rows = [line.split(" | ")[0] for line in versus.table(recorded) if line.startswith("| **")]
    assert rows == [
        "| **hello**, WSGI",
        "| **hello**: a constant of 13 bytes",
        "| **hello**, uvicorn",
        "| **cpu5**: 5 ms of computing",
    ]


def test_what_was_not_measured_is_a_dash() -> None:
    recorded = result(
        **{
            "hello, ASGI, 1 worker": measured(10, 1, 1),
            "hello, ASGI, 2 workers": {"p99": [2.0]},
        }
    )
    row = versus.table(recorded)[2]
    assert row.endswith("| 10 | – | – | 1.5 / 1 | – / 2 | 1 | – |")


def test_a_given_rate_is_no_speed_up() -> None:
    names = ["mixed-rate, ASGI, 1 worker", "mixed-rate, ASGI, 2 workers"]
    row = versus.table(result(**{name: measured(1000, 1, 1) for name in names}))[2]
    assert "| 1,000 | 1,000 | – |" in row
