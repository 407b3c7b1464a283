"""What is logged, for real: nothing silences it, and each failure is one record."""

import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server, serving

ID = "0af7651916cd43dd"


def lines_of(server: Server) -> list[dict[str, Any]]:
    """The log, which has nothing but JSON objects in it."""
    return [json.loads(line) for line in server.log().splitlines()]


def status_of(server: Server, path: str = "/", **headers: str) -> int:
    client = server.connect()
    client.request("GET", path, headers=headers)
    response: http.client.HTTPResponse = client.getresponse()
    response.read()
    client.close()
    return response.status


@pytest.mark.parametrize(
    ("app", "place"),
    [
        ("silencer:app", "import"),
        ("silencer:app", "lifespan"),
        ("silencer:app", "request"),
        ("silencer:wsgi", "import"),
        ("silencer:wsgi", "request"),
    ],
)
def test_a_500_is_one_record_whatever_the_application_does_to_logging(
    tmp_path: Path, app: str, place: str
) -> None:
    """Reports from the field, E."""
    with serving(tmp_path, app, "--log-format", "json", workers=1, WHERE=place) as server:
        assert status_of(server, "/a?b", **{"X-Request-ID": ID}) == 500

    (line,) = [each for each in lines_of(server) if each["level"] == "error"]
    assert line["message"] == "the app failed: RuntimeError"
    assert "RuntimeError: a bug of the application" in line["traceback"]
    assert (line["method"], line["path"], line["request_id"]) == ("GET", "/a", ID)
    assert line["worker"] == 0
