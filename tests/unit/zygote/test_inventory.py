"""What an import leaves behind: asked of fresh interpreters, since it would stay in this one."""

import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from clusterd.kernel.resources import Descriptor, Thread
from clusterd.zygote import inventory


def verdict(code: str, keep: tuple[int, ...] = (), place: Path | None = None) -> str:
    """Return the inventory's reason after this code, standing in for an import, has run."""
    whole = (
        "from clusterd.kernel import resources\nfrom clusterd.zygote import inventory\n"
        "earlier = resources.read()\n"
        + textwrap.dedent(code)
        + "\nprint(inventory.take(earlier).reason, flush=True)\nimport os\n"
        "for child in resources.children():\n    os.kill(child.pid, 9)\nos._exit(0)"
    )
    told = subprocess.run(
        [sys.executable, "-c", whole],
        capture_output=True,
        text=True,
        check=True,
        pass_fds=keep,
        stdin=subprocess.DEVNULL,
        cwd=place,
    )
    return told.stdout.strip()


THREAD = """
    import threading
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, daemon=True, name="tea-maker")
    thread.start()
"""


def test_a_plain_import_is_safe() -> None:
    assert verdict("import json, decimal") == ""


def test_a_thread_that_the_import_started_is_named() -> None:
    assert verdict(THREAD) == "the import left the thread 'tea-maker'"


def test_a_thread_whose_name_is_no_utf8_is_named() -> None:
    """Names are cut at 15 bytes, in the middle of a character too."""
    code = """
        import ctypes, threading
        stop, named = threading.Event(), threading.Event()
        def brew():
            ctypes.CDLL(None).prctl(15, b"tea-maker-\\xc3", 0, 0, 0)  # PR_SET_NAME
            named.set()
            stop.wait()
        threading.Thread(target=brew, daemon=True, name="tea-maker").start()
        named.wait()
    """
    assert verdict(code) == "the import left the thread 'tea-maker'"


def test_an_import_that_ignores_the_end_of_children_is_judged() -> None:
    """Then the kernel reaps them, and there is nothing left to wait for."""
    code = THREAD + "\n    import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    assert verdict(code) == "the import left the thread 'tea-maker'"


def test_many_threads_are_counted() -> None:
    more = """
        for _ in range(2):
            threading.Thread(target=stop.wait, daemon=True, name="tea-maker").start()
    """
    assert verdict(textwrap.dedent(THREAD) + textwrap.dedent(more)) == (
        "the import left the thread 'tea-maker' (3 times)"
    )


def test_a_thread_that_its_library_stops_before_a_fork_does_not_count() -> None:
    """OpenBLAS does so; forking once tells who does not know about forks."""
    stops = """
        import os
        def before():
            stop.set()
            thread.join()
            while len(os.listdir("/proc/self/task")) > 1:
                pass  # joined before the kernel has quite taken it down
        os.register_at_fork(before=before)
    """
    assert verdict(textwrap.dedent(THREAD) + textwrap.dedent(stops)) == ""


@pytest.mark.parametrize(
    "code",
    ["import select; kept = select.epoll()", "import asyncio; kept = asyncio.new_event_loop()"],
)
def test_an_event_loop_would_be_shared_by_all_workers(code: str) -> None:
    assert verdict(code) == "the import left an event loop"


def test_an_epoll_that_was_closed_again_is_no_matter() -> None:
    assert verdict("import select; select.epoll().close()") == ""


def test_a_connection_is_named_by_its_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = f"import socket; kept = socket.create_connection(('127.0.0.1', {port}))"
        assert verdict(code) == f"the import left a connection to 127.0.0.1:{port}"


def test_a_udp_socket_is_named_by_its_address_once_messages_can_arrive() -> None:
    code = "import socket; kept = socket.socket(type=socket.SOCK_DGRAM)"
    assert verdict(code) == ""
    bound = verdict(f"{code}; kept.bind(('127.0.0.1', 0))")
    assert re.fullmatch(r"the import left a UDP socket at 127\.0\.0\.1:[1-9]\d*", bound)


def test_what_was_open_before_the_import_does_not_count() -> None:
    """The channel, the log, the board and the listeners of a zygote, say."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as ours:
        accepted, _ = listener.accept()
        with accepted:
            assert verdict("import json", keep=(ours.fileno(), listener.fileno())) == ""


def test_a_log_socket_may_be_shared_since_nothing_comes_back(tmp_path: Path) -> None:
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with log:
        log.bind(str(tmp_path / "log"))
        assert verdict(f"""
            import logging.handlers
            kept = logging.handlers.SysLogHandler({str(tmp_path / "log")!r})
        """) == ""  # fmt: skip


def test_an_open_sqlite_file_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "shop.data")
    code = f"""
        import sqlite3
        kept = sqlite3.connect({path!r})
        kept.execute("CREATE TABLE t (n INTEGER)")
        kept.commit()
    """
    assert verdict(code) == f"the import left the open SQLite file {path}"


def test_a_child_process_and_a_locked_file_are_named(tmp_path: Path) -> None:
    code = f"""
        import fcntl, subprocess
        kept = open({str(tmp_path / "lock")!r}, "w")
        fcntl.flock(kept, fcntl.LOCK_EX)
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    """
    assert verdict(code) == (
        f"the import left the locked file {tmp_path / 'lock'}, the process 'cat'"
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("kept = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "a socket of the family 16"),
        ("kept = socket.create_server(('127.0.0.1', 0))", "a socket that listens at 127.0.0.1:"),
        ("kept = socket.create_server(('::1', 0), family=10)", "a socket that listens at [::1]:"),
        ("kept = multiprocessing.get_context('fork').Manager()", "the process 'SyncManager-1'"),
        ("kept = socket.socketpair()", ""),
        ("kept = os.pipe()", ""),
        ("kept = multiprocessing.Queue()", ""),
        ("kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", ""),
        ("kept = open('/etc/passwd')", "the open file /etc/passwd"),
        ("kept = zipfile.ZipFile(BytesIO(), 'w'), open('/proc/self/maps')", ""),
        ("kept = open(sys.executable, 'rb'); kept = mmap.mmap(kept.fileno(), 9, access=1)", ""),
        ("kept = open(os.devnull), open('app.log', 'a+'), open('app.log', 'w')", ""),
        ("kept = tempfile.TemporaryFile()", "the open file /"),
        ("kept = shared_memory.SharedMemory(create=True, size=9); kept.unlink()", ""),
        ("subprocess.run(['true'])", ""),
        ("kept = subprocess.Popen(['true']); os.waitid(os.P_ALL, 0, ENDED)", ""),
    ],
)
def test_what_counts_and_what_does_not(code: str, reason: str, tmp_path: Path) -> None:
    modules = (
        "import mmap, multiprocessing, os, socket, subprocess, sys, tempfile, zipfile\n"
        "from io import BytesIO\nfrom multiprocessing import shared_memory\n"
        "ENDED = os.WEXITED | os.WNOWAIT\n"
    )
    told = verdict(modules + code, place=tmp_path)
    assert told.startswith(f"the import left {reason}") if reason else told == ""


def test_an_empty_sqlite_file_and_an_lmdb_file_are_told_by_name_and_content() -> None:
    """SQLite writes nothing into a new file before its first change."""
    things = [
        Descriptor(3, "/srv/shop.db", empty=True),
        Descriptor(4, "/srv/cache", head=(0xBEEFC0DE).to_bytes(4, sys.byteorder)),
        Descriptor(5, "/srv/empty", empty=True),
        Descriptor(6, "/srv/page.db", head=b"GIF89a"),
    ]
    found = inventory.judge(things)
    assert found.reason == (
        "the import left the open SQLite file /srv/shop.db, the open LMDB file /srv/cache"
    )
    assert found.kinds == "SQLite files, LMDB files"


def test_the_reason_names_much_and_counts_the_rest_so_that_it_fits_a_message() -> None:
    things = [Thread(n, f"{n}" * 300, "") for n in range(40)]
    reason = inventory.judge(things).reason
    assert reason.endswith(" and 28 more")
    assert len(reason) < 4000
    same = inventory.judge([Thread(1, "tea", ""), Thread(2, "tea", "")], lambda _: "shop/db.py:7")
    assert same.reason == "the import left the thread 'tea' (2 times, shop/db.py:7)"


def test_where_nothing_grave_was_left_there_is_nothing_to_say() -> None:
    found = inventory.judge([Thread(2, "", "jemalloc_bg_thd")])
    assert [one.what for one in found.left] == ["jemalloc's background thread"]
    assert (found.reason, found.kinds, found.advice) == ("", "", "")
    assert found.verdict is inventory.Verdict.HARMLESS


def test_a_variable_that_switches_threads_off_is_named() -> None:
    found = inventory.judge([Thread(2, "", "", "libgomp-a34b3233")])
    assert found.reason == "the import left a thread of libgomp-a34b3233"
    assert "OMP_NUM_THREADS=1" in found.advice
    named = inventory.judge([Thread(2, "", "worker", "tokenizers"), Thread(3, "", "")])
    assert named.reason == (
        "the import left the thread 'worker' of tokenizers, a thread of native code"
    )
