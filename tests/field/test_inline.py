"""WSGI frameworks with one thread, in the worker's own: they must not see its event loop."""

import json
from pathlib import Path

import pytest

from tests.support.server import serving

APPS = str(Path(__file__).parent / "apps")


@pytest.mark.parametrize("threads", ["1", "2"])
def test_django_queries_its_database(threads: str, tmp_path: Path) -> None:
    """Its ORM refuses to where a loop runs in the thread (SynchronousOnlyOperation)."""
    options = ("--app-dir", APPS, "--threads", threads)
    database = str(tmp_path / "db")
    with serving(tmp_path, "django_inline:app", *options, workers=1, DB=database) as server:
        assert server.get("/visit") == "1"
        assert server.get("/visit") == "2"
        assert server.get("/stream") == "aa"
        assert server.get("/coroutine") == "2"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_flask_runs_coroutines(threads: str, tmp_path: Path) -> None:
    options = ("--app-dir", APPS, "--threads", threads)
    with serving(tmp_path, "flask_inline:app", *options, workers=1) as server:
        for _ in range(2):
            assert server.get("/view") == "from a coroutine"
            assert server.get("/run") == "from a loop of its own"
            assert server.get("/stream") == "from a loop of its own, twice"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_flasks_log_is_passed_on_as_it_is(threads: str, tmp_path: Path) -> None:
    """A line of wsgi.errors is no error of the server's, and a traceback is one record."""
    options = ("--app-dir", APPS, "--threads", threads, "--log-format", "json")
    with serving(tmp_path, "flask_inline:app", *options, workers=1) as server:
        client = server.connect()
        client.request("GET", "/boom")
        assert client.getresponse().status == 500
        client.close()
    lines = [json.loads(line) for line in server.log().splitlines()]
    said = [each for each in lines if "in boom" in str(each) or "before it fails" in str(each)]
    assert [each["level"] for each in said] == ["info", "info"]
    assert said[0]["message"].endswith("WARNING in flask_inline: before it fails")
    assert "Exception on /boom [GET]" in said[1]["message"]
    assert said[1]["traceback"].endswith("RuntimeError: a bug")
