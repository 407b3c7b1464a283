"""Stacks for people: what is the application's stands out, and nothing is lost on the way."""

import asyncio
import faulthandler
import sys
import tempfile
import traceback

from clusterd.core.stacks import HOME, MOST_NAMES, STANDARD, fold

SITE = "/srv/.venv/lib/python3.11/site-packages"
DUMP = f"""\
thread MainThread
  File "<frozen runpy>", line 198, in _run_module_as_main
    x
  File "{HOME}/child.py", line 245, in <module>
    leave(main())
  File "{HOME}/worker/main.py", line 168, in run
    return self.loop.run_until_complete(main)
  File "{STANDARD}/asyncio/base.py", line 72, in loop
    x

task clusterd
  File "{HOME}/worker/main.py", line 34, in _live
    await self._end
  waits for Future

3 tasks, one of them Task-4
  File "{HOME}/app/asgi.py", line 34, in run
    await self.peer.app(self.scope, self.receive, self.send)
  File "{SITE}/starlette/routing.py", line 60, in app
    await x
  File "{SITE}/fastapi/routing.py", line 61, in app
    await x
  File "/srv/shop/views.py", line 72, in page
    await reply()
  File "{STANDARD}/asyncio/tasks.py", line 650, in sleep
    return await future
  waits for Future

thread AnyIO worker thread
  File "{STANDARD}/threading.py", line 30, in _bootstrap
    x
  File "/srv/shop/mail.py", line 7, in send
    sock.recv(100)
"""


def test_the_applications_frames_come_first_and_others_are_folded() -> None:
    assert fold(DUMP, "--all shows it") == [
        "3 tasks, one of them Task-4",
        "  … 3 frames of clusterd, starlette, fastapi",
        '  File "/srv/shop/views.py", line 72, in page',
        "    await reply()",
        "  … 1 frame of asyncio",
        "  waits for Future",
        "thread AnyIO worker thread",
        "  … 1 frame of threading",
        '  File "/srv/shop/mail.py", line 7, in send',
        "    sock.recv(100)",
        "… nothing of the application in thread MainThread, task clusterd: --all shows it",
    ]


def test_the_newest_frame_is_shown_also_where_it_is_a_librarys() -> None:
    text = f"""\
thread wsgi 1
  File "/srv/shop/mail.py", line 7, in send
    smtp.send(text)
  File "{STANDARD}/smtplib.py", line 390, in getreply
    x
  File "{STANDARD}/socket.py", line 700, in readinto
    return self._sock.recv_into(b)
"""
    assert fold(text)[-3:] == [
        "  … 1 frame of smtplib",
        f'  File "{STANDARD}/socket.py", line 700, in readinto',
        "    return self._sock.recv_into(b)",
    ]


def test_the_lifespan_that_waits_is_shown_last() -> None:
    text = """\
task lifespan
  File "/srv/shop/main.py", line 7, in lifespan
    yield

task Task-9
  File "/srv/shop/main.py", line 60, in page
    x
"""
    assert [line for line in fold(text) if line[0] != " "] == ["task Task-9", "task lifespan"]


def test_of_an_installed_application_the_packages_frames_are_shown() -> None:
    text = f"""\
task Task-4
  File "{HOME}/app/asgi.py", line 34, in run
    x
  File "{SITE}/datasette/app.py", line 60, in render
    x
"""
    assert fold(text) == [
        "task Task-4",
        "  … 1 frame of clusterd",
        f'  File "{SITE}/datasette/app.py", line 60, in render',
        "    x",
    ]


def test_an_idle_worker_is_one_line() -> None:
    text = "\n\n".join(DUMP.split("\n\n")[:2])
    assert fold(text) == ["… nothing of the application in thread MainThread, task clusterd"]
    many = "\n\n".join(
        f'thread wsgi {n}\n  File "{HOME}/worker/threads.py", line 1' for n in range(9)
    )
    assert fold(many)[0].endswith(f"wsgi 3 and {9 - MOST_NAMES} more")


def test_an_exceptions_traceback_keeps_its_order_and_its_words() -> None:
    text = f"""\
Traceback (most recent call last):
  File "{SITE}/sqlalchemy/engine.py", line 1, in execute
    x
OperationalError: no such table: pages

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "{HOME}/app/lifespan.py", line 1, in _run
    x
  File "/srv/shop/main.py", line 7, in lifespan
    await migrate()
    ^^^^^^^^^^^^^^^
  File "{SITE}/alembic/command.py", line 7, in upgrade
    x
OperationalError: no such table: pages
[SQL: SELECT 1]
(Background on this error at: https://sqlalche.me/e/20/e3q8)
"""
    lines = fold(text)
    assert [line for line in lines if line[0] != " "] == [
        line for line in text.splitlines() if line and line[0] != " "
    ]
    assert "    ^^^^^^^^^^^^^^^" in lines
    assert '  File "/srv/shop/main.py", line 7, in lifespan' in lines
    assert "  … 1 frame of clusterd" in lines
    assert f'  File "{SITE}/alembic/command.py", line 7, in upgrade' in lines


def test_where_all_is_ours_all_is_shown() -> None:
    ours = f'Traceback:\n  File "{HOME}/worker/main.py", line 1, in run\n    x\nKeyError: 1'
    assert fold(ours) == ours.splitlines()
    assert fold("it did not even answer the signal") == ["it did not even answer the signal"]
    assert fold("") == []


def without_command(lines: list[str]) -> list[str]:
    """Leave out the frame of `python -c`, which is how pytest-xdist starts its processes.

    From Python 3.13 on its source line comes with it.
    """
    started = [n for n, line in enumerate(lines) if line.startswith('  File "<string>"')]
    frames = {n + after for n in started for after in (0, 1)}
    return [
        line
        for n, line in enumerate(lines)
        if n not in started and not (n in frames and line.startswith("    "))
    ]


def test_what_python_and_faulthandler_write_today_is_understood() -> None:
    """The newest frame is the last of Python's and the first of faulthandler's; this file is the
    application here."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=False)
        file.seek(0)
        from_c = without_command(fold(file.read()))
    assert f'  File "{__file__}"' in from_c[1]
    assert from_c[-1].startswith("  … ")
    assert "pytest" in from_c[-1] or "pluggy" in from_c[-1]

    frame = sys._current_frames()[__import__("threading").get_ident()]
    text = "thread MainThread\n" + "".join(traceback.format_stack(frame))
    from_python = without_command(fold(text))
    assert from_python[0] == "thread MainThread"
    assert from_python[1].startswith("  … ")
    assert any(f'  File "{__file__}"' in line for line in from_python)


def test_a_task_that_sleeps_shows_the_applications_line() -> None:
    async def page() -> None:
        await asyncio.sleep(0)

    async def test() -> list[str]:
        task = asyncio.create_task(page(), name="page")
        text = "task page\n" + "".join(
            traceback.format_list(traceback.extract_stack(task.get_stack()[0]))
        )
        await task
        return fold(text)

    assert any("in page" in line for line in asyncio.run(test()))
