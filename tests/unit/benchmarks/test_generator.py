"""What wrk and h2load print is understood, and the generator's figures are judged by rounds."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.outcome import Outcome
from benchmarks.scenarios import generator
from benchmarks.scenarios.generator import OURS, WRK

WRK_SAID = """Running 1s test @ http://127.0.0.1:1/
  Latency Distribution
     50%  430.00us
     75%    2.42ms
     99%    1.05s
  65533 requests in 1.01s, 7.19MB read
Requests/sec:  64609.34
"""
H2LOAD_SAID = """
finished in 1.00s, 76311.50 req/s, 8.37MB/s
requests: 76311 total, 76375 started, 76311 done, 76311 succeeded, 0 failed
"""


def test_what_wrk_and_h2load_print_is_understood() -> None:
    assert generator._number(generator.WRK_RATE, WRK_SAID) == 64609.34
    assert generator._number(generator.WRK_COUNT, WRK_SAID) == 65533
    assert generator._time(generator.WRK_MEDIAN, WRK_SAID) == 0.43
    assert generator._time(r"75%\s+([\d.]+)(us|ms|s)\b", WRK_SAID) == 2.42
    assert generator._time(r"99%\s+([\d.]+)(us|ms|s)\b", WRK_SAID) == 1050
    assert generator._number(generator.H2LOAD_RATE, H2LOAD_SAID) == 76311.5
    with pytest.raises(ValueError, match="no "):
        generator._number(generator.WRK_RATE, "unable to connect")


def test_each_figure_has_its_target() -> None:
    outcome = Outcome(generator.UNITS)
    outcome.add(OURS, "closed loop", 61_000, 59_000, 62_000)
    outcome.add(OURS, "open loop", 50_400, 50_400, 49_000)
    outcome.add(OURS, "lag p99", 0.1, 0.3, 0.15)
    outcome.add(OURS, "CPU", 10, 12, 11)
    outcome.add(WRK, "CPU", 5, 7, 5)
    outcome.add(OURS, "rate", 9_000)
    outcome.add(WRK, "rate", 10_000)
    generator._judge(outcome, {1})
    assert [(figure.value, figure.reached) for figure in outcome.figures] == [
        (61_000, True),
        (50_400, True),
        (0.15, True),
        (2.0, True),
        (pytest.approx(10.0), False),  # either way off
    ]
    assert outcome.notes == []
    generator._judge(outcome, set())
    assert "on one core" in outcome.notes[0]


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def test_the_server_is_pinned_apart_from_what_is_left(sleeper: int) -> None:
    every = os.sched_getaffinity(0)
    left = generator._pin(sleeper)
    assert left == every - {min(every)}
    assert os.sched_getaffinity(sleeper) == ({min(every)} if left else every)
    assert os.sched_getaffinity(0) == every
