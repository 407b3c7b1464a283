"""What an application may do while it is imported, and what becomes of it, on real clusters."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.server import Server, running, serving

APP = """
import os
{code}

async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200}})
    await send({{"type": "http.response.body", "body": str(os.getpid()).encode()}})
"""
THREAD = "import threading\nstop = threading.Event()\n"
THREAD += "threading.Thread(target=stop.wait, daemon=True, name='tea').start()"


def deploy(place: Path, code: str) -> tuple[str, ...]:
    """Write an application whose import runs this code; return what to start it with."""
    (place / "shop.py").write_text(APP.format(code=code))
    return "shop:app", "--app-dir", str(place)


def test_text_that_an_import_prints_comes_once(tmp_path: Path) -> None:
    """Output to a file is held back until there is much of it, and a fork copies what is held."""
    options = deploy(tmp_path, "print('imported')")
    out = tmp_path / "out"
    wrapper = ("sh", "-c", f'exec "$@" >{out}', "sh")
    with running(tmp_path, *options, "-w", "4", wrapper=wrapper, PYTHONUNBUFFERED="") as server:
        server.ready()
        assert server.get()
        assert server.stop() == 0
    assert out.read_text() == "imported\n"


def test_one_warning_names_what_was_left_where_and_at_what_price(tmp_path: Path) -> None:
    with serving(tmp_path, *deploy(tmp_path, THREAD), "--log-format", "text") as server:
        (told,) = server.find("import_per_worker")
        line = "shop.py:5" if sys.version_info >= (3, 12) else "shop.py, after the import in line 3"
        assert told["reason"] == f"the import left the thread 'tea' ({line})"
        assert "memory" in told["price"]
        assert "man clusterd-importing" in told["remedy"]
        logged = [line for line in server.log().splitlines() if "WARNING" in line]
        assert sum("import per worker" in line for line in logged) == 1
        assert len({server.get() for _ in range(20)}) <= 2


def test_one_warning_names_the_signal_handlers_that_workers_replace(tmp_path: Path) -> None:
    """However many workers there are, and though the zygote is rebuilt."""
    code = "import signal\ndef on_term(*_): pass\nsignal.signal(signal.SIGTERM, on_term)"
    with serving(tmp_path, *deploy(tmp_path, code), "--log-format", "text") as server:
        (zygote,) = server.ask("status")["zygotes"]
        os.kill(zygote["pid"], signal.SIGKILL)
        server.event("zygote_readied")
        server.rest_so_far()
        (told,) = server.find("trouble")
        assert told["reason"].endswith(" workers replace: SIGTERM (on_term, shop.py:4)")
        assert "man clusterd-importing" in told["remedy"]
        logged = [line for line in server.log().splitlines() if "WARNING" in line]
        assert sum("SIGTERM (on_term, shop.py:4)" in line for line in logged) == 1


def test_always_fails_with_the_same_words(tmp_path: Path) -> None:
    options = (*deploy(tmp_path, THREAD), "--preload", "always")
    with running(tmp_path, *options) as server:
        assert server.wait() == 3
        (failed,) = server.find("zygote_failed")
        assert "forking is not safe: the import left the thread 'tea' (shop.py" in failed["reason"]


@pytest.mark.parametrize("warnings", ["error", "default"])
def test_threads_of_an_import_bring_no_warning_of_pythons(tmp_path: Path, warnings: str) -> None:
    """On 3.12 and later os.fork() warns of threads: as an error it would break the fork."""
    with serving(tmp_path, *deploy(tmp_path, THREAD), PYTHONWARNINGS=warnings) as server:
        assert server.get()
    assert quiet(server)


def test_a_zygote_that_leaves_warns_of_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, *deploy(tmp_path, ""), PYTHONWARNINGS="default") as server:
        server.ask("reload")
        server.event("rollout_finished")
        server.ask("reload")
        server.event("rollout_finished")
        assert server.find("zygote_exited", code=0)
    assert quiet(server)


def quiet(server: Server) -> bool:
    """Tell whether no process has written a warning of Python's."""
    assert "Warning" not in server.log(), server.log()
    return True
