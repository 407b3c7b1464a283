"""An image is made with few gaps in its memory, and with all that each worker would find out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Apart, since an image freezes what the process has. Prints the collector's state after the import
# and the interface that was found.
BUILD = """
import gc, json, sys
from clusterd.config.serving import AppSettings
from clusterd.zygote.importing import build
image = build(AppSettings(app="shop:app", app_dir=sys.argv[1]))
print(json.dumps([sys.modules["shop"].during, gc.get_threshold(), gc.isenabled(), image.interface]))
"""
DURING = "import gc\nduring = gc.isenabled(), gc.get_threshold()[0]\n"
ASGI = "async def app(scope, receive, send): ...\n"
WSGI = "def app(environ, start_response): ...\n"


def build(place: Path, app: str) -> list[object]:
    (place / "shop.py").write_text(DURING + app)
    command = [sys.executable, "-c", BUILD, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[object] = json.loads(done.stdout)
    return found


def usual() -> list[int]:
    command = [sys.executable, "-c", "import gc; print(*gc.get_threshold())"]
    return list(map(int, subprocess.run(command, capture_output=True, check=True).stdout.split()))


def test_garbage_of_an_import_is_collected_but_seldom(tmp_path: Path) -> None:
    during, after, is_on, _ = build(tmp_path, ASGI)
    assert during == [True, 5_000]
    assert (after, is_on) == (usual(), True)


def test_what_the_application_chooses_for_the_collector_stays(tmp_path: Path) -> None:
    assert build(tmp_path, f"gc.set_threshold(70_000, 7, 7)\n{ASGI}")[1] == [70_000, 7, 7]
    assert build(tmp_path, f"gc.disable()\n{ASGI}")[2] is False


@pytest.mark.parametrize(("app", "interface"), [(ASGI, "asgi"), (WSGI, "wsgi")])
def test_an_image_knows_how_its_application_is_called(
    tmp_path: Path, app: str, interface: str
) -> None:
    assert build(tmp_path, app)[3] == interface
