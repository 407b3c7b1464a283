"""The application's own metrics, from the files of its processes."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.exposition import choose_encoder

from clusterd.observe.merged import Merged
from clusterd.observe.metrics import END, exposition
from tests.support.scrape import values
from tests.unit.observe.test_metrics import group, reply

# What a worker of an application does, with a gauge of the living and a name that is ours.
WORKER = """
import sys
from prometheus_client import Counter, Gauge, Histogram
Counter("orders", "Orders.").inc(2)
Histogram("wait", "Wait.", buckets=(1, 2)).observe(1.5)
Gauge("open", "Open.", multiprocess_mode="livesum").set(3)
Counter("clusterd_requests", "Forged.").inc(99)
print("written", flush=True)
sys.stdin.read()
"""


def worker(place: Path) -> "subprocess.Popen[bytes]":
    """A process that has written its files, and lives until its input ends."""
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(place)}
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    return process


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=1.0.0"])
def test_files_of_the_living_and_the_dead_are_one_page_with_ours(
    tmp_path: Path, accept: str
) -> None:
    encode, _ = choose_encoder(accept)
    with worker(tmp_path) as living, worker(tmp_path) as dying:
        dying.communicate()
        (tmp_path / "counter_1.db").touch()  # of a process that is making it just now
        page = Merged(str(tmp_path)).exposition(encode).decode()
        living.communicate()
    assert "clusterd_" not in page, "nobody may speak in our name"
    assert "orders_total 4.0" in page
    assert 'wait_bucket{le="2.0"} 2.0' in page
    assert "open 3.0" in page, "the gauge of a process that is gone does not count"
    assert len(list(tmp_path.glob("gauge_livesum_*.db"))) == 1
    ours = exposition(reply(group()), openmetrics=bool(accept))
    assert (END in page) is False
    assert page.splitlines()[0].startswith("# HELP ")
    assert values(ours + END * bool(accept))


def test_files_that_cannot_be_read_cost_the_applications_metrics_and_not_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "counter_1.db").write_bytes(struct.pack("=4i", 64, 0, 1000, 0))
    assert Merged(str(tmp_path)).exposition(choose_encoder("")[0]) == b""
    assert Merged(str(tmp_path / "none")).exposition(choose_encoder("")[0]) == b"", "none yet"
    assert "metrics of the application cannot be read" in caplog.text
