"""Libraries that configure logging, and what is left of the server's own log."""

import json
import os
import subprocess
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from tests.support.server import LIMIT, ROOT, Server, serving

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


WELL = """\
import contextlib

import sqlalchemy
from starlette.applications import Starlette

engine = sqlalchemy.create_engine("sqlite://")


@contextlib.asynccontextmanager
async def lifespan(app):
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT 1"))
    yield


app = Starlette(lifespan=lifespan)
"""
RIGHT = "OperationalError: (sqlite3.OperationalError) no such table: pages"


def command_of(server: Server, *args: str) -> subprocess.CompletedProcess[str]:
    """A command to a running cluster."""
    return subprocess.run(
        [sys.executable, "-m", "clusterd.cli.main", *args, "--runtime-dir", server.runtime],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_a_failed_lifespan_is_told_by_its_exception_and_the_applications_line(
    tmp_path: Path,
) -> None:
    """Reports from the field, Q9: SQLAlchemy's message ends with the address of a web page."""
    (tmp_path / "shop.py").write_text(WELL)
    options = ("--app-dir", str(tmp_path), "--log-format", "json")
    with serving(tmp_path, "shop:app", *options, workers=1) as server:
        (tmp_path / "shop.py").write_text(WELL.replace("SELECT 1", "SELECT * FROM pages"))
        reload = command_of(server, "reload", "--wait")
        why = command_of(server, "why")

    assert reload.returncode != 0
    assert RIGHT in reload.stderr.splitlines()[0]
    for told in (reload.stderr, why.stdout):
        assert f'File "{tmp_path}/shop.py", line 12, in lifespan' in told
        assert "Background on this error" in told
        assert "starlette/routing.py" not in told
    assert RIGHT in why.stdout
    lines = [json.loads(line) for line in server.log().splitlines()]
    (failed,) = [line for line in lines if "traceback" in line]
    assert failed["message"] == "worker failed"
    assert failed["reason"].endswith(RIGHT)
    assert "in lifespan" in failed["traceback"]
