"""Where a worker is: stacks that name the line, and that fit a message."""

import asyncio
import json
import os
import signal
import threading

from clusterd.ipc.channel import encode
from clusterd.ipc.messages import Dumped
from clusterd.kernel.signals import FAULT_SIGNAL
from clusterd.worker.dump import CUT, ROOM, fit, fit_end, register, stacks, unregister


async def waits_for_the_shop(gate: asyncio.Event) -> None:
    await the_till(gate)


async def the_till(gate: asyncio.Event) -> None:
    await gate.wait()


def test_tasks_show_the_whole_chain_of_awaits(loop: asyncio.AbstractEventLoop) -> None:
    """`Task.get_stack` shows the outermost coroutine only, which is always the server's."""

    async def look() -> str:
        gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(waits_for_the_shop(gate))
            await asyncio.sleep(0)
            text = stacks(loop)
            gate.set()
        return text

    text = loop.run_until_complete(look())
    assert text.index("waits_for_the_shop") < text.index("in the_till") < text.index("gate.wait()")
    assert text.count("in the_till") == 1
    assert "3 tasks, one of them" in text
    assert text.startswith("thread MainThread\n")


def test_other_threads_are_named(loop: asyncio.AbstractEventLoop) -> None:
    entered, leave = threading.Event(), threading.Event()

    def in_the_cellar() -> None:
        entered.set()
        leave.wait()

    thread = threading.Thread(target=in_the_cellar, name="digger")
    thread.start()
    entered.wait()
    text = stacks(loop)
    leave.set()
    thread.join()
    assert "thread digger\n" in text
    assert "in in_the_cellar" in text


def test_what_is_too_long_is_cut_to_fit_a_message() -> None:
    """JSON makes six bytes of one where the text is not ASCII."""
    short = "a few lines\n"
    assert fit(short) == short

    long = fit("ä\n" * 50_000)
    assert long.endswith(CUT)
    assert encode(Dumped(long))
    assert len(json.dumps(long)) > 60_000


def test_a_silent_worker_shows_its_stack_to_the_signal() -> None:
    """From C, so that it works while the interpreter runs no Python."""
    read, write = os.pipe()
    register(write)
    try:
        signal.raise_signal(FAULT_SIGNAL)
        text = os.read(read, 65536).decode()
    finally:
        unregister()
        os.close(read)
        os.close(write)
    assert "test_a_silent_worker_shows_its_stack_to_the_signal" in text


def test_of_a_traceback_the_end_is_kept() -> None:
    assert fit_end("short") == "short"
    cut = fit_end("\u00e4\n" * 50_000 + "ValueError: x")
    assert cut.endswith("\nValueError: x")
    assert cut.startswith(CUT[1:])
    assert len(json.dumps(cut)) <= ROOM
