"""What a benchmark leaves: files, a table, and an exit status that scripts can use."""

from pathlib import Path

import pytest

from clusterd.bench import canvas, conditions, pictures, store
from clusterd.bench.chaos import Havoc
from clusterd.bench.errors import CannotWrite
from clusterd.bench.ladders import Fixed
from clusterd.bench.load import Load
from clusterd.bench.results import Side
from clusterd.cli import bench_report
from clusterd.cli.bench_plan import Asked
from clusterd.cli.main import run
from tests.support import reports


def asked(
    stem: Path | None = None, pictures: Path | None = None, fail_on: tuple[str, ...] = ()
) -> Asked:
    load = Load()
    return Asked(
        "http://a/",
        None,
        None,
        [Side("uvicorn", "python -m uvicorn click:app --port {port}")],
        load,
        Fixed((load,)),
        2,
        Havoc(),
        fail_on=tuple(map(conditions.parse, fail_on)),
        stem=stem,
        pictures=pictures,
    )


def test_a_report_is_printed_and_stored_with_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = reports.report()
    assert bench_report.finish(asked(tmp_path / "v1.2"), report) == 0
    told = capsys.readouterr()
    assert "Answers a second" in told.out
    assert f"report: {tmp_path}/v1.2.html\nraw figures: {tmp_path}/v1.2.json\n" in told.out
    assert not told.err
    assert store.load(tmp_path / "v1.2.json").sides == report.sides
    assert "<svg" in (tmp_path / "v1.2.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"v1.2.html", "v1.2.json"}


def test_pictures_are_files_where_they_are_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pictures, "draw", lambda _: {"one": canvas.Canvas("one", "One", 2.0).picture("")}
    )
    assert bench_report.finish(asked(None, tmp_path), reports.report()) == 0
    assert capsys.readouterr().out.endswith(f"pictures: 2 files in {tmp_path}\n")
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "one.svg"}


def test_what_cannot_be_stored_is_said_once_and_the_table_is_there_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stem = tmp_path / "gone" / "a"
    assert bench_report.finish(asked(stem, tmp_path), reports.report()) == 1
    told = capsys.readouterr()
    assert "Answers a second" in told.out
    assert "report:" not in told.out
    assert told.err.count("clusterd:") == 1
    assert "a.json" in told.err
    assert not list(tmp_path.iterdir())


def test_conditions_decide_about_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    report = reports.report()
    assert bench_report.finish(asked(fail_on=("p99>3600s", "errors>50%")), report) == 0
    assert not capsys.readouterr().err
    assert bench_report.finish(asked(fail_on=("errors>50%", "p50>1us")), report) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(report.sides)
    assert all(line.startswith("clusterd: --fail-on: ") for line in told)
    assert "p50 is " in told[0]


def test_a_gate_that_passes_by_a_figure_that_says_little_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """p99.99 of one turn of the first side is about its slowest handful."""
    assert bench_report.finish(asked(fail_on=("p99.99>3600s",)), reports.report()) == 0
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("clusterd: --fail-on passes: 1 worker: p99.99 is ")
    assert "are too few for p99.99" in told


def test_a_place_that_takes_no_report_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="no directory"):
        bench_report.must_be_writable(asked(tmp_path / "gone" / "a"))
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="--pictures"):
        bench_report.must_be_writable(asked(pictures=tmp_path / "file" / "shots"))
    bench_report.must_be_writable(asked(tmp_path / "a", tmp_path / "shots" / "deep"))
    assert (tmp_path / "shots" / "deep").is_dir()


def test_versions_of_what_the_commands_name() -> None:
    found = bench_report.versions(asked())
    assert {"clusterd", "python", "uvloop"} <= found.keys()
    assert "--port" not in found
    assert "click:app" not in found


def test_the_machine_is_described() -> None:
    found = bench_report.machine()
    assert list(found) == ["cpu", "cores", "memory", "kernel", "system"]
    assert all(found.values())


def test_two_stored_reports_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    store.save(reports.report(), before)
    store.save(reports.report(), after)
    after.write_text(after.read_text().replace('"target": "', '"target": "\\u001b[31m'))
    assert run(["bench", "compare", str(before), str(after), "--fail-on-worse"]) == 0
    shown = capsys.readouterr().out
    assert "throughput" in shown
    assert "\\x1b[31m" in shown  # said, and not obeyed
    before.write_text("[]")
    assert run(["bench", "compare", str(before), str(after)]) == 4
    assert "a.json" in capsys.readouterr().err
