"""Behind nginx, configured as the README says: the real client is seen, and nothing is smuggled."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.proxies import (
    CLIENT,
    Record,
    ask,
    doors,
    needs_nginx,
    nginx,
    port_of,
)
from tests.support.server import ROOT, serving
from tests.support.smuggling import ATTACKS, Attack, check_nothing_came_through

pytestmark = needs_nginx

# Bodies go on as they come, and so does as much nonsense as nginx can be talked into.
LENIENT = """
    server {{
        listen 127.0.0.1:{port};
        ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;
        location / {{
            proxy_pass http://app$request_uri;
            proxy_http_version 1.1;
            proxy_request_buffering off; proxy_buffering off;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
"""


@dataclass
class Stage:
    """A server that records, and the ports of two ways to it."""

    record: Record
    usual: int
    lenient: int


def example() -> str:
    """The README's own configuration."""
    match = re.search(r"```nginx\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = tmp_path_factory.mktemp("nginx")
    record = Record(place)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            serving(place, "recorder:app", workers=1, RECORD=str(record.path))
        )
        taken = stack.enter_context(doors(2))
        usual, lenient = map(port_of, taken)
        servers = example().replace("127.0.0.1:8000", "{}:{}".format(*server.address))
        assert "listen 80;" in servers
        servers = servers.replace("listen 80;", f"listen 127.0.0.1:{usual};")
        servers += LENIENT.format(port=lenient)
        stack.enter_context(nginx(place / "nginx", servers, taken))
        yield Stage(record, usual, lenient)


def test_the_app_sees_the_real_client(stage: Stage) -> None:
    seen = ask(stage.usual, "/a%20b?c", {"Host": "shop.example"})
    assert seen["client"] == [CLIENT, 0]
    assert seen["scheme"] == "http"
    assert seen["path"] == "/a b"
    assert seen["headers"]["host"] == "shop.example"


def test_what_a_client_forges_is_not_believed(stage: Stage) -> None:
    forged = {
        "X-Forwarded-For": "198.51.100.66",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "666",
        "Forwarded": "for=198.51.100.66;proto=https;host=evil.example",
        "X_Forwarded_For": "198.51.100.66",
        "X-Request-ID": "forged",
    }
    seen = ask(stage.usual, "/", {"Host": "shop.example", **forged})
    assert seen["client"] == [CLIENT, 0]
    assert seen["scheme"] == "http"
    assert seen["headers"]["host"] == "shop.example"
    assert seen["headers"]["x-request-id"] != "forged"


def test_bodies_come_through(stage: Stage) -> None:
    for port in (stage.usual, stage.lenient):
        assert ask(port, "/", method="POST", body=b"a" * 100_000)["body"] == "a" * 100_000
        pieces = iter([b"one", b"two"])
        assert ask(port, "/", method="POST", body=pieces)["body"] == "onetwo"


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("way", ["usual", "lenient"])
def test_no_second_request_is_smuggled(stage: Stage, way: str, attack: Attack) -> None:
    check_nothing_came_through(attack, getattr(stage, way), stage.record)
