"""The log and the pid file: what another user put in their place is not opened, nor waited for."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterd.kernel import own_files
from tests.support.ordinary import give

superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def link(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("root's\n")
    path.symlink_to(victim)


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    os.mknod(path, 0o20666, os.makedev(1, 3))  # /dev/null: harmless if it is opened


IN_THE_WAY: list[tuple[Callable[[Path], None], str]] = [
    (link, "it is a symbolic link, not a regular file"),
    (dangling, "it is a symbolic link, not a regular file"),
    (os.mkfifo, "it is a FIFO, not a regular file"),
    (bound, "it is a socket, not a regular file"),
    (Path.mkdir, "it is a directory, not a regular file"),
    (device, "it is a device, not a regular file"),
]


@pytest.mark.parametrize(("put", "reason"), IN_THE_WAY)
def test_what_is_no_file_is_neither_opened_nor_followed(
    put: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    put(path)
    assert own_files.fault(str(path)) == reason
    with pytest.raises(PermissionError, match=reason):
        own_files.open_log(str(path))
    with pytest.raises(PermissionError, match=reason):
        own_files.read(str(path), 9)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(("put", "reason"), IN_THE_WAY[:3])
def test_what_takes_the_place_after_the_first_look_is_refused_as_well(
    put: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    """A FIFO with a reader is opened at once, so only fstat(2) finds it."""
    path, innocent = tmp_path / "log", (tmp_path / "innocent")
    put(path)
    innocent.touch()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if path.is_fifo() else None
    about = os.lstat(innocent)
    with pytest.raises(OSError, match=r"Too many levels of symbolic links|it is a FIFO"):
        own_files._open(str(path), os.O_WRONLY | own_files.SAFELY, (), lambda _: about)
    if reader is not None:
        os.close(reader)


def test_lines_are_appended_to_a_file_that_only_its_group_may_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = os.umask(0)
    try:
        for text in (b"one\n", b"two\n"):
            fd = own_files.open_log(str(path))
            os.write(fd, text)
            assert not os.get_inheritable(fd)
            os.close(fd)
    finally:
        os.umask(before)
    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert own_files.read(str(path), 3) == b"one"


@superuser
def test_a_file_of_another_user_is_refused_unless_workers_are_that_user(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    give(path)
    with pytest.raises(PermissionError, match="it belongs to user nobody"):
        own_files.open_log(str(path))
    os.close(own_files.open_log(str(path), [path.stat().st_uid]))
    os.chown(path, 4_000_001, -1)
    assert own_files.fault(str(path)) == "it belongs to user 4000001"


def test_a_second_name_of_a_file_is_refused_where_others_may_have_made_it(tmp_path: Path) -> None:
    path, victim = tmp_path / "log", tmp_path / "victim"
    victim.touch()
    path.hardlink_to(victim)
    tmp_path.chmod(0o755)
    assert own_files.fault(str(path)) == ""
    tmp_path.chmod(0o1777)
    assert own_files.fault(str(path)).startswith("it has 2 hard links")
    victim.unlink()
    assert own_files.fault(str(path)) == ""


def test_nothing_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        own_files.open_log(str(tmp_path / "none" / "log"))
    with pytest.raises(FileNotFoundError):
        own_files.read(str(tmp_path / "none"), 9)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/dev/stdout", 1),
        ("/dev/stderr", 2),
        ("/dev/fd/7", 7),
        ("/proc/self/fd/12", 12),
        ("/proc/1/fd/2", None),
        ("/dev/fd/x", None),
        ("/dev/fd/3/x", None),
        ("/var/log/dev/stdout", None),
    ],
)
def test_descriptors_have_names(path: str, number: int | None) -> None:
    assert own_files.descriptor_of(path) == number


def test_a_descriptor_that_was_passed_is_copied_and_not_opened() -> None:
    """A socket could not be opened by its name, and a FIFO might be waited for."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        name = f"/proc/self/fd/{theirs.fileno()}"
        with pytest.raises(OSError, match=f"no descriptor {theirs.fileno()} was passed"):
            own_files.open_log(name)
        theirs.set_inheritable(True)
        copy = own_files.open_log(name)
        assert copy != theirs.fileno()
        assert not os.get_inheritable(copy)
        os.write(copy, b"line\n")
        os.close(copy)
        assert ours.recv(99) == b"line\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        own_files.open_log("/dev/fd/999999")
    with open("/dev/null", "rb") as null:
        os.set_inheritable(null.fileno(), True)
        with pytest.raises(OSError, match="is open for reading only"):
            own_files.open_log(f"/dev/fd/{null.fileno()}")
    assert own_files.open_log("/dev/stderr") == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [(os.unlink, "No such file"), (os.mkfifo, "being replaced"), (Path.touch, "being replaced")],
)
def test_what_was_opened_must_be_what_the_path_still_names(
    change: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    """Another user may link to a file of root's, and unlink it before its links are counted."""
    path, calls = tmp_path / "log", []
    path.touch()

    def lstat(name: str) -> os.stat_result:
        calls.append(name)
        if len(calls) == 2:
            path.rename(tmp_path / "away")
            if change is not os.unlink:
                change(path)
        return os.lstat(name)

    with pytest.raises(OSError, match=reason):
        own_files._open(str(path), os.O_WRONLY | own_files.SAFELY, (), lstat)


def test_a_link_that_is_made_again_after_its_count_is_seen(tmp_path: Path) -> None:
    folder, calls = tmp_path / "open", []
    folder.mkdir()
    folder.chmod(0o777)
    path = folder / "log"
    path.touch()

    def lstat(name: str) -> os.stat_result:
        calls.append(name)
        if len(calls) == 2:
            os.link(path, folder / "second")
        return os.lstat(name)

    with pytest.raises(PermissionError, match="2 hard links"):
        own_files._open(str(path), os.O_WRONLY | own_files.SAFELY, (), lstat)
