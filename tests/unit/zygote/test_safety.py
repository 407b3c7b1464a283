"""Is forking safe? Asked of fresh interpreters, since a thread started here would stay."""

import subprocess
import sys
import textwrap

import pytest


def verdict(code: str) -> str:
    """What `unsafe_to_fork` says after this code, standing in for an import, has run."""
    whole = textwrap.dedent(code) + (
        "\nfrom clusterd.zygote.safety import unsafe_to_fork\nprint(unsafe_to_fork(), flush=True)\n"
        "import os; os._exit(0)"
    )
    told = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)
    return told.stdout.strip()


THREAD = """
    import threading
    open("/proc/self/comm", "w").write("main")
    def body():
        open("/proc/thread-self/comm", "w").write("tea-maker")
        started.set()
        stop.wait()
    started, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    started.wait()
"""


def test_a_plain_import_is_safe() -> None:
    assert verdict("import json, decimal") == ""


def test_a_thread_that_the_import_started_is_named() -> None:
    assert verdict(THREAD) == "the import left the thread 'tea-maker' running"


def test_many_threads_are_counted() -> None:
    more = """
        for _ in range(2):
            started.clear()
            threading.Thread(target=body, daemon=True).start()
            started.wait()
    """
    assert verdict(textwrap.dedent(THREAD) + textwrap.dedent(more)) == (
        "the import left 3 threads ('tea-maker') running"
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
    assert verdict(code) == "the import left an event loop open"


def test_an_epoll_that_was_closed_again_is_no_matter() -> None:
    assert verdict("import select; select.epoll().close()") == ""
