"""Find a store by its URL, run it without a loop, and know the node of a process."""

import asyncio
import builtins
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.errors import Bug
from clusterd.jobs.drive import drive
from clusterd.jobs.node import node, owner
from clusterd.jobs.sqlite import SqliteStore
from clusterd.jobs.store import StoreError
from clusterd.jobs.stores import open_store
from clusterd.kernel import database_files
from clusterd.kernel.process import start_ticks


def test_a_url_is_opened_by_its_scheme() -> None:
    store = open_store("sqlite:/var/lib/jobs")
    assert isinstance(store, SqliteStore)
    assert store.url == "sqlite:/var/lib/jobs"


@pytest.mark.parametrize(
    "url", ["", "/var/lib/jobs", "oracle:x", "oracle:secret@host", "SQLITE:/x"]
)
def test_an_unknown_scheme_names_those_that_exist_and_shows_no_password(url: str) -> None:
    with pytest.raises(StoreError, match=r"expected sqlite:…") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_missing_library_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("clusterd.jobs.sqlite")]:
        monkeypatch.delitem(sys.modules, name)
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "sqlite3":
            raise ModuleNotFoundError("No module named '_sqlite3'")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(StoreError, match=r"No module named '_sqlite3'\n.*built without"):
        open_store("sqlite:/jobs")


def test_drive_returns_raises_and_refuses_to_wait() -> None:
    async def value() -> int:
        return 42

    async def error() -> None:
        raise KeyError("x")

    async def wait() -> None:
        await asyncio.sleep(0)

    assert drive(value()) == 42
    with pytest.raises(KeyError):
        drive(error())
    with pytest.raises(Bug, match="no event loop"):
        drive(wait())


def test_the_owner_key_names_node_pid_and_start_of_this_process() -> None:
    mine = owner("jobs", 1, 2)
    assert mine.key.split(":") == [node(), str(os.getpid()), str(start_ticks(os.getpid()))]
    assert (mine.group, mine.slot, mine.generation) == ("jobs", 1, 2)
    boot, namespace = node().split("-")
    assert len(bytes.fromhex(boot)) == 16
    assert os.readlink("/proc/self/ns/pid") == f"pid:[{namespace}]"


@pytest.mark.parametrize(
    ("magic", "name"),
    [
        (0x6969, "NFS"),
        (0xFF534D42, "CIFS"),
        (0xFF534D42 - (1 << 32), "CIFS"),  # as a signed number
        (0xFE534D42, "SMB2"),
        (0x01021997, "9P"),
        (0x65735546, "FUSE"),
        (0xEF53, ""),  # ext4
        (0x01021994, ""),  # tmpfs
    ],
)
def test_network_file_systems_are_known_by_their_number(magic: int, name: str) -> None:
    assert database_files.name_of(magic) == name


def test_files_belong_to_the_directorys_owner_also_where_the_superuser_makes_them(
    tmp_path: Path,
) -> None:
    """A command of root's on a store that no worker has opened yet must not lock them out."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
    for make in (database_files.create, database_files.touch):
        file = tmp_path / make.__name__
        make(str(file))
        make(str(file))
        about, directory = file.stat(), tmp_path.stat()
        assert (about.st_uid, about.st_gid) == (directory.st_uid, directory.st_gid)
        assert about.st_mode & 0o777 == 0o600


def test_the_file_system_of_a_path_is_asked_for() -> None:
    assert database_files.shared_file_system("/proc") == ""
    with pytest.raises(FileNotFoundError):
        database_files.shared_file_system("/proc/none")
