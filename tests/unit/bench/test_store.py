"""A report comes back as it was; a file is whole or not there; what is none is said to be none."""

import json
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.bench import store
from clusterd.bench.errors import CannotWrite
from clusterd.bench.load import Load, Request
from clusterd.bench.results import Report, Turn
from clusterd.core.errors import ConfigError
from tests.support import reports


def empty() -> Report:
    return Report("app", "now")


REPORTS: dict[str, Callable[[], Report]] = {
    "two sides": reports.report,
    "a ladder": reports.ladder_of_rates,
    "chaos": reports.chaos,
    "doubts": reports.doubtful,
    "nothing": empty,
}


def plain(report: Report) -> object:
    """What can be compared: a histogram is equal to none but itself."""
    return store.dumps(report)


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    made, path = REPORTS[kind](), tmp_path / "report.json"
    store.save(made, path)
    again = store.load(path)
    assert plain(again) == plain(made)
    for one, other in zip(made.turns, again.turns, strict=True):
        assert (one.load, one.errors, one.events) == (other.load, other.errors, other.events)
        assert one.latency.counts() == other.latency.counts()
        assert [m.latency.counts() for m in one.moments] == [
            m.latency.counts() for m in other.moments
        ]


@given(st.binary(max_size=300), st.text(max_size=20), st.floats(0, 1e9))
def test_bodies_and_headers_of_any_bytes_are_kept(body: bytes, text: str, number: float) -> None:
    load = Load((Request("/", "POST", ((text, text),), body, number),), rate=number)
    report = Report(text, "now", turns=[Turn(text, 1, load)], requests=load.requests)
    again = store.loads(store.dumps(report))
    assert (again.target, again.requests, again.turns[0].load) == (text, load.requests, load)


def test_the_summary_is_for_scripts() -> None:
    body = json.loads(store.dumps(reports.report()))
    one, four = body["summary"]
    assert (body["kind"], body["format"]) == ("clusterd bench report", 1)
    assert (one["side"], one["speedup"], four["speedup"]["over"]) == ("1 worker", None, "1 worker")
    assert 3.5 < four["speedup"]["throughput"]["value"] < 3.8
    assert one["throughput"]["low"] <= one["throughput"]["median"] <= one["throughput"]["high"]
    latency = four["latency_us"]
    assert latency["p50"] < latency["p99"] < latency["p99.9"] <= latency["max"]


def test_the_summary_gives_no_percentile_that_is_not_carried() -> None:
    body = json.loads(store.dumps(reports.chaos()))
    assert body["summary"][0]["latency_us"]["p99.99"] is None
    assert body["summary"][0]["not_carried"] == {"p99.99": "lost"}
    body = json.loads(store.dumps(reports.report()))
    assert body["summary"][0]["latency_us"]["p99.99"] is None
    assert body["summary"][0]["not_carried"] == {"p99.99": "few"}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no report"),
        ("{", "no report"),
        ("[]", "no report of"),
        ("null", "no report of"),
        ('{"turns": []}', "no report of"),
        ("[" * 100_000, "no report"),
        ('{"kind": "clusterd bench report"}', "has format None"),
        ('{"kind": "clusterd bench report", "format": 99}', "has format 99"),
        ('{"kind": "clusterd bench report", "format": 1}', "damaged"),
        ('{"kind": "clusterd bench report", "format": 1, "target": 5, "made": ""}', "damaged"),
    ],
)
def test_what_is_no_report_is_a_clear_message(text: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=word) as caught:
        store.load(path)
    assert str(path) in str(caught.value)


def test_a_damaged_histogram_is_a_clear_message() -> None:
    text = store.dumps(reports.report()).replace("HIST", "HISS")
    with pytest.raises(ConfigError, match="damaged"):
        store.loads(text)


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9, 0.999])
def test_a_report_that_was_cut_short_is_a_clear_message(at: float) -> None:
    text = store.dumps(reports.report())
    with pytest.raises(ConfigError):
        store.loads(text[: int(len(text) * at)])


def test_a_report_of_a_later_version_with_more_in_it_is_refused() -> None:
    body = json.loads(store.dumps(reports.report()))
    body["weather"] = "fine"
    with pytest.raises(ConfigError, match="not known to this version"):
        store.loads(json.dumps(body))


def test_what_cannot_be_read_is_the_operators_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        store.load(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="directory"):
        store.load(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not even text"):
        store.load(tmp_path / "binary")


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="No space left") as caught:
        store.write(Path("/dev/full"), "x" * 10_000)
    assert "free some space" in caught.value.remedy


def test_what_was_there_stays_where_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(CannotWrite, match="File too large"):
            store.write(path, "new" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def test_no_directory_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="No such file") as caught:
        store.write(tmp_path / "none" / "x", "")
    assert "make the directory" in caught.value.remedy
    with pytest.raises(CannotWrite, match="directory"):
        store.write(tmp_path, "")


def test_a_new_file_has_the_usual_mode_and_an_old_one_its_own(tmp_path: Path) -> None:
    old, new, usual = tmp_path / "old", tmp_path / "new", tmp_path / "usual"
    old.touch()
    old.chmod(0o640)
    usual.touch()
    for path in (old, new):
        store.write(path, "text")
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert new.stat().st_mode == usual.stat().st_mode


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_text("old")
    store.write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        store.write(path, "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
