"""Where a script finds the store of its application's cluster."""

from pathlib import Path

import pytest

from clusterd.config.resolve import load_groups
from clusterd.core.errors import ConfigError
from clusterd.jobs import StoreError
from clusterd.jobs.backend import find_url
from clusterd.jobs.places import find_store

VARIABLE = "CLUSTERD_JOBS_STORE"


def write(directory: Path, text: str, name: str = "clusterd.toml") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(text)


def test_the_variable_counts_first(tmp_path: Path) -> None:
    write(tmp_path, '[jobs]\napp = "m:jobs"\nstore = "sqlite:file.sqlite3"\n')
    for directory in (tmp_path, Path("/proc")):  # with a file and without
        assert find_store({VARIABLE: "sqlite:/a/b"}, directory) == "sqlite:/a/b"


def test_a_file_in_a_directory_above_is_found_and_its_path_is_meant_from_there(
    tmp_path: Path,
) -> None:
    write(tmp_path, '[jobs]\napp = "m:jobs"\nstore = "sqlite:file.sqlite3?synchronous=full"\n')
    write(tmp_path / "a", 'bind = "127.0.0.1:8000"\n')  # says nothing of jobs
    (tmp_path / "a/b").mkdir()
    expected = f"sqlite:{tmp_path}/file.sqlite3?synchronous=full"
    assert find_store({}, tmp_path / "a/b") == expected
    assert find_store({VARIABLE: ""}, tmp_path) == expected


def test_the_default_is_the_one_that_the_cluster_takes(tmp_path: Path) -> None:
    text = '[tool.clusterd]\nname = "shop"\n[tool.clusterd.jobs]\napp = "m:jobs"\n'
    write(tmp_path, text, "pyproject.toml")
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    found = find_store(environ, tmp_path)
    assert found == f"sqlite:{tmp_path}/state/clusterd/shop/jobs.sqlite3"
    assert found == load_groups({}, environ, tmp_path)["jobs"].jobs.jobs_store
    there = find_store({"STATE_DIRECTORY": "/var/lib/shop"}, tmp_path)
    assert there == "sqlite:/var/lib/shop/jobs.sqlite3"


def test_an_error_names_both_ways(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        find_store({}, tmp_path)
    assert VARIABLE in str(caught.value)
    assert "[jobs] of clusterd.toml" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_wrong_is_an_error_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, '[jobs]\napp = "m:jobs"\nstroe = "sqlite:x"\n')
    with pytest.raises(ConfigError, match="stroe"):
        find_store({}, tmp_path)


def test_jobs_without_a_store_take_that_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, '[jobs]\napp = "m:jobs"\nstore = "sqlite:file.sqlite3"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_url("") == f"sqlite:{tmp_path}/file.sqlite3"
    assert find_url("sqlite:other") == f"sqlite:{tmp_path}/other"
    monkeypatch.setenv(VARIABLE, f"sqlite:{tmp_path}/other")
    assert find_url("") == find_url("sqlite:other") == f"sqlite:{tmp_path}/other"


def test_jobs_that_name_a_server_take_the_namespace_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "redis://:secret@h/2?namespace=n")
    assert find_url("redis://:secret@h/2") == "redis://:secret@h/2?namespace=n"
    assert find_url("redis://:secret@h/2?namespace=n") == "redis://:secret@h/2?namespace=n"
    for other in ("redis://:secret@h/3", "redis://:secret@h/2?namespace=m"):
        with pytest.raises(StoreError, match="names another store") as caught:
            find_url(other)
        assert "secret" not in str(caught.value)
