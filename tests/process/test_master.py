"""What the master is made of, looked at from outside while it runs."""

import os
import platform
from pathlib import Path

from tests.support.server import serving

EPOLL_WAIT = {"x86_64": 232, "aarch64": 22}  # the syscall's number; aarch64: epoll_pwait
FOREVER = 0xFFFFFFFF


def maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_the_master_has_one_thread_and_none_of_what_serves(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import _sqlite3\nfrom clusterd.demo import app\n")
    with serving(tmp_path, "shop:app", "--app-dir", str(tmp_path)) as server:
        server.ask("reload", wait=True)
        assert len(os.listdir(f"/proc/{server.pid}/task")) == 1
        for name in ("uvloop", "httptools", "_ssl", "_asyncio", "psutil", "_sqlite3"):
            assert name not in maps(server.pid), f"the master has loaded {name}"
        worker = server.workers()[0]["pid"]
        assert "uvloop" in maps(worker), "or this test could not fail"
        assert "_sqlite3" in maps(worker)


def test_with_nothing_to_do_the_master_waits_for_ever(tmp_path: Path) -> None:
    """Its one wait has no timeout: it cannot wake unless something happens."""
    with serving(tmp_path) as server:
        while (line := Path(f"/proc/{server.pid}/syscall").read_text()).startswith("running"):
            pass
        number, *arguments = line.split()
        assert int(number) == EPOLL_WAIT[platform.machine()]
        assert int(arguments[3], 16) & FOREVER == FOREVER


def test_titles_say_who_is_who(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        titles = {
            Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
            for pid in server.family()
        }
        assert titles == {
            "clusterd: master tell:app",
            "clusterd: zygote g1 ready tell:app",
            "clusterd: worker 0 g1 ready",
            "clusterd: worker 1 g1 ready",
        }


def test_workers_are_the_master_s_own_children(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for pid in server.family() - {server.pid}:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            assert int(stat[1]) == server.pid
