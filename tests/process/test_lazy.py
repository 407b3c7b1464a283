"""Lazy imports of the application (PEP 810) belong to the import: on Python 3.15 and newer."""

import os
import signal
import types
from pathlib import Path

import pytest

from tests.support.server import serving

pytestmark = pytest.mark.skipif(
    not hasattr(types, "LazyImportType"), reason="lazy imports exist from Python 3.15 on"
)
SHOP = """
lazy import report

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": report.NAME})
"""


def shop(place: Path, report: str = "NAME = b'first'") -> tuple[str, ...]:
    """Write the application; the options that find it."""
    (place / "shop.py").write_text(SHOP)
    (place / "report.py").write_text(report)
    return ("--app-dir", str(place))


def test_a_reload_onto_a_lazily_imported_error_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, "shop:app", *shop(tmp_path)) as server:
        shop(tmp_path, "def")
        server.signal(signal.SIGHUP)
        failed = server.event("rollout_failed", generation=2)
        assert "the lazy import of report in shop failed: SyntaxError" in failed["reason"]
        assert server.get() == "first"


def test_a_replacement_runs_the_code_of_its_siblings(tmp_path: Path) -> None:
    with serving(tmp_path, "shop:app", *shop(tmp_path), workers=1) as server:
        shop(tmp_path, "NAME = b'later'")
        (victim,) = server.workers()
        os.kill(victim["pid"], signal.SIGKILL)
        server.event("readied", slot=victim["slot"])
        assert server.get() == "first"


def test_a_rollback_goes_back_to_the_code_of_its_time(tmp_path: Path) -> None:
    with serving(tmp_path, "shop:app", *shop(tmp_path)) as server:
        shop(tmp_path, "NAME = b'second'")
        server.signal(signal.SIGHUP)
        server.event("rollout_finished", generation=2)
        assert server.get() == "second"
        server.ask("rollback")
        server.event("rollout_finished", generation=1)
        assert server.get() == "first"


OURS = """
import sys, types
from pathlib import Path

left = {
    name
    for name, module in list(sys.modules.items())
    if name.startswith("clusterd.worker")
    for value in list(vars(module).values())
    if type(value) is types.LazyImportType
}
Path(__file__).with_name("left").write_text(" ".join(sorted(left)))

async def app(scope, receive, send):
    pass
"""


def test_our_own_modules_are_loaded_before_the_fork_where_all_imports_are_lazy(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop.py").write_text(OURS)
    options = ("--app-dir", str(tmp_path), "--preload", "always")
    with serving(tmp_path, "shop:app", *options, workers=1, PYTHON_LAZY_IMPORTS="all"):
        assert (tmp_path / "left").read_text() == ""
