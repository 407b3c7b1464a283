"""Complete applications from PyPI, as `clusterd run -w 2` serves them with the defaults.

Their pages are right, a reload under use loses nothing, and the end is an orderly one.
"""

import json
from pathlib import Path

import pytest

from tests.support.load import Load
from tests.support.server import running

APPS = str(Path(__file__).parent / "apps")
# name → application, page, and what is on it
PAGES = {
    "Datasette": ("books:app", "/books/books.json?_shape=array", '"title": "two"'),
    "Radicale": ("radicale:application", "/.web/", "Radicale"),
}


@pytest.mark.parametrize("name", PAGES)
def test_an_application_serves_and_is_reloaded_under_use(tmp_path: Path, name: str) -> None:
    app, page, shown = PAGES[name]
    calendars = tmp_path / "radicale.cfg"
    calendars.write_text(f"[auth]\ntype = none\n[storage]\nfilesystem_folder = {tmp_path}/dav\n")
    options = ("-w", "2", "--app-dir", APPS, "--log-format", "json")
    env = {"PLACE": str(tmp_path), "RADICALE_CONFIG": str(calendars)}
    with running(tmp_path, app, *options, wrapper=(), keep=(), **env) as server:
        server.ready()
        assert shown in server.get(page)
        with Load(server, page, rest=0.05) as load:
            server.ask("reload", wait=True)
        assert load.failed == [], server.history()
        assert load.answered > 0
        assert shown in server.get(page)
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    assert [line for line in lines if line["level"] in ("error", "critical")] == []
