"""Libraries that configure logging, and what is left of the server's own log."""

import json
from pathlib import Path

from alembic import command
from alembic.config import Config

from tests.support.server import serving

APPS = str(Path(__file__).parent / "apps")


def test_alembic_in_lifespan_does_not_silence_the_server(tmp_path: Path) -> None:
    """Its env.py calls `fileConfig`, which disables every logger that alembic.ini does not name."""
    config = Config(str(tmp_path / "alembic.ini"))
    command.init(config, str(tmp_path / "migrations"))
    text = (tmp_path / "alembic.ini").read_text()
    text = text.replace("driver://user:pass@localhost/dbname", f"sqlite:///{tmp_path}/db")
    (tmp_path / "alembic.ini").write_text(text)

    options = ("--app-dir", APPS, "--log-format", "json")
    ini = str(tmp_path / "alembic.ini")
    with serving(tmp_path, "migrating:app", *options, workers=1, ALEMBIC_INI=ini) as server:
        client = server.connect()
        client.request("GET", "/boom", headers={"X-Request-ID": "abc"})
        assert client.getresponse().status == 500
        client.close()

    assert "Context impl SQLiteImpl" in server.log(), "env.py did not configure logging"
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    (line,) = [each for each in lines if each["level"] == "error"]
    assert "RuntimeError: a bug of the application" in line["traceback"]
    assert line["request_id"] == "abc"
