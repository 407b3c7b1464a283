"""The end of a run on disk: bounded, replaced as a whole, and never in the way."""

import json
import os
from pathlib import Path

from clusterd.core.events import Event, Kind
from clusterd.ipc import last_run


def events(count: int, text: str = "") -> list[Event]:
    return [Event(n, 1.0, Kind.EXITED, {"slot": n, "traceback": text}) for n in range(count)]


def test_it_is_the_users_or_the_services(tmp_path: Path) -> None:
    assert last_run.directory({"STATE_DIRECTORY": "/var/lib/shop:/b", "HOME": "/h"}) == Path(
        "/var/lib/shop"
    )
    assert last_run.directory({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/clusterd")
    assert last_run.directory({"HOME": "/h"}) == Path("/h/.local/state/clusterd")
    assert last_run.directory({"HOME": ""}) is None


def test_what_is_kept_is_bounded_and_found_by_name_and_place(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert last_run.read("shop", ["/run/a"], environ) == []
    last_run.write(events(1000, "x" * 100_000), "shop", "/run/a", environ)
    last_run.write(events(1), "blue", "/run/b", environ)
    found = last_run.read("shop", ["/run/a", "/run/c"], environ)
    assert (len(found), found[-1]["slot"]) == (last_run.EVENTS, 999)
    assert len(found[0]["traceback"]) == last_run.TEXT
    assert last_run.read("blue", ["/run/a"], environ) == []
    assert last_run.read("clusterd", ["/run/a"], environ) == [], "not another cluster's"
    last_run.write(events(2), "shop", "/run/a", environ)
    assert len(last_run.read("shop", ["/run/a"], environ)) == 2, "the next run replaces it"


def test_runs_of_long_ago_go_and_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    for number in range(last_run.KEPT + 5):
        last_run.write(events(1), f"shop{number}", "/run/a", environ)
    place = tmp_path / "clusterd"
    assert len(list(place.iterdir())) == last_run.KEPT
    for text in ("", "[]", json.dumps({"events": 7, "name": "bad", "runtime_dir": "/run/x"})):
        (place / "bad.last.json").write_text(text)
        assert last_run.read("bad", ["/run/x"], environ) == []


def test_another_programs_files_in_a_shared_directory_stay(tmp_path: Path) -> None:
    """Neither removed nor counted, nor read where that would wait."""
    environ = {"STATE_DIRECTORY": str(tmp_path)}
    os.mkfifo(tmp_path / "pipe.last.json")
    others = [tmp_path / f"backup{n}.last.json" for n in range(last_run.KEPT)]
    for path in others:
        path.write_text(json.dumps({"events": [], "name": "backup"}))
        os.utime(path, (1, 1))
    for number in range(last_run.KEPT + 5):
        last_run.write(events(1), f"shop{number}", "/run/a", environ)
    assert all(path.exists() for path in others)
    assert len(list(tmp_path.glob("shop*"))) == last_run.KEPT
    assert last_run.read("shop30", ["/run/a"], environ) == []


def test_a_start_removes_its_own_record_alone(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    for name, place in (("shop", "/run/a"), ("shop", "/run/b"), ("blue", "/run/a")):
        last_run.write(events(1), name, place, environ)
    for _ in range(2):  # the second time there is none
        last_run.forget("shop", "/run/a", environ)
    assert last_run.read("shop", ["/run/a"], environ) == []
    assert last_run.read("shop", ["/run/b"], environ)
    assert last_run.read("blue", ["/run/a"], environ)
    last_run.forget("shop", "/run/a", {"XDG_STATE_HOME": "/proc/none"})
    last_run.forget("shop", "/run/a", {})


def test_what_cannot_be_written_is_not_kept() -> None:
    last_run.write(events(1), "shop", "/run/a", {"XDG_STATE_HOME": "/proc/none"})
    last_run.write(events(1), "shop", "/run/a", {})


def test_a_cluster_without_a_runtime_directory_keeps_nothing(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    last_run.write(events(1), "shop", "", environ)
    last_run.forget("shop", "", environ)
    assert list(tmp_path.iterdir()) == []


def test_what_takes_a_records_place_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    """Between the look at the directory and the opening of the file."""
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    last_run.write(events(1), "shop", "/run/a", environ)
    (record,) = (tmp_path / "clusterd").iterdir()
    assert last_run._parsed(record)
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(record)
    os.mkfifo(fifo)
    assert last_run._parsed(link) == {}
    assert last_run._parsed(fifo) == {}
    silent = os.open(fifo, os.O_RDWR)
    assert last_run._parsed(fifo) == {}
    os.close(silent)
