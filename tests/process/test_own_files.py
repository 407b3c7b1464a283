"""What another user put in the place of the log or the pid file: refused, by a real master."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterd.ipc.client import Refused
from tests.support.ordinary import Unavailable, as_ordinary_user, give
from tests.support.server import Server, running, serving


def link(path: Path) -> None:
    path.symlink_to(path.with_name("victim"))


TRAPS: list[tuple[Callable[[Path], None], str]] = [
    (link, "it is a symbolic link"),
    (os.mkfifo, "it is a FIFO"),
]


@pytest.mark.parametrize("option", ["--log-file", "--pid-file"])
@pytest.mark.parametrize(("put", "reason"), TRAPS)
@pytest.mark.parametrize("is_dangling", [False, True])
def test_a_start_follows_no_link_and_waits_for_no_fifo(
    put: Callable[[Path], None], reason: str, is_dangling: bool, option: str, tmp_path: Path
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "file"
    if not is_dangling:
        victim.write_text("1\n")
    put(path)
    with running(tmp_path, "tell:app", option, str(path)) as server:
        assert server.wait() == 4
        assert f"{path} cannot be" in server.log()
        assert reason in server.log()
        assert list(server.runtime.iterdir()) == []
    assert victim.exists() is not is_dangling
    assert is_dangling or victim.read_text() == "1\n"


@pytest.mark.parametrize(("put", "reason"), TRAPS)
def test_a_reopen_follows_no_link_and_waits_for_no_fifo(
    put: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    """The old file is written to, and the master goes on."""
    log, victim = tmp_path / "log", tmp_path / "victim"
    victim.touch()
    options = ("--log-file", str(log), "--access-log", "--access-log-format", "common")
    with serving(tmp_path, "tell:app", *options, workers=1) as server:
        log.rename(tmp_path / "log.1")
        put(log)
        with pytest.raises(Refused, match=reason):
            server.ask("reopen")
        server.signal(signal.SIGUSR1)
        server.event("trouble")
        server.event("trouble", next="the old file is written to")
        server.get("/after")
        log.unlink()
        server.ask("reopen")
    assert "/after" in (tmp_path / "log.1").read_text()
    assert log.exists()
    assert victim.read_text() == ""


def test_a_fifo_in_the_place_of_the_pid_file_delays_no_stop(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with serving(tmp_path, "tell:app", "--pid-file", str(path), workers=1) as server:
        path.unlink()
        os.mkfifo(path)
        assert server.stop() == 0
    assert path.is_fifo(), "it is not ours to remove"


def test_an_ordinary_user_writes_to_no_log_of_another(tmp_path: Path) -> None:
    """Though it may write there: whose it is can read along, and cut it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    try:
        as_ordinary_user()
    except Unavailable as error:
        pytest.skip(str(error))
    with running(tmp_path, "tell:app") as place:  # a directory that the user may enter
        folder = place.runtime / "logs"
        folder.mkdir()
        give(folder)
        log = folder / "log"
        log.touch()
        log.chmod(0o666)
        os.chown(log, 4_000_001, -1)
        place.runtime.chmod(0o755)
        server = Server(tmp_path, "tell:app", "--log-file", str(log), ordinary=True)
        try:
            assert server.wait() == 4
            assert "it belongs to user 4000001" in server.log()
        finally:
            server.dispose()
