"""Whose word about the client is taken, and what becomes of the word of others."""

import dataclasses
from typing import Any

import pytest

from clusterd.config.serving import ProxySettings
from clusterd.config.settings import Config
from clusterd.wire.forwarded import HOPS
from clusterd.worker.trust import MOST, Peers, Trust, mounted, root_path
from tests.unit.worker.fakes import Bench, get, run, status_of

SERVER = ("192.0.2.2", 80)
UNIX = ("/run/clusterd.sock", None)
PEER = "192.0.2.1"  # of the bench's connections


@pytest.mark.parametrize(
    ("trusted", "client", "server", "has"),
    [
        (("192.0.2.1",), ("192.0.2.1", 1), SERVER, True),
        (("192.0.2.1",), ("192.0.2.10", 1), SERVER, False),
        (("192.0.2.0/24",), ("192.0.2.255", 1), SERVER, True),
        (("192.0.2.0/24",), ("192.0.3.0", 1), SERVER, False),
        (("192.0.2.0/24",), ("::ffff:192.0.2.1", 1), SERVER, True),  # a listener of both families
        (("2001:db8::/32",), ("2001:db8::1", 1), SERVER, True),
        (("2001:db8::/32",), ("2001:db9::1", 1), SERVER, False),
        (("fe80::1",), ("fe80::1%eth0", 1), SERVER, True),
        (("127.0.0.1", "::1"), ("127.0.0.2", 1), SERVER, False),
        (("0.0.0.0/0",), ("2001:db8::1", 1), SERVER, False),
        (("*",), ("203.0.113.7", 1), SERVER, True),
        (("*",), None, UNIX, True),
        (("unix",), None, UNIX, True),
        (("unix",), ("", None), UNIX, True),
        (("unix",), ("192.0.2.1", 1), SERVER, False),
        (("192.0.2.1",), None, UNIX, False),
        (("unix",), None, SERVER, False),  # a TCP peer that has left has no address
        (("unix",), None, None, False),
        ((), ("192.0.2.1", 1), SERVER, False),
    ],
)
def test_peers(trusted: tuple[str, ...], client: Any, server: Any, has: bool) -> None:
    peers = Peers(trusted)
    for _ in range(2):  # the second time from memory
        assert peers.has(client, server) is has


def test_networks_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the zygote, for all workers."""
    Peers(("198.51.100.0/24",))
    monkeypatch.delattr("ipaddress.ip_network")
    assert Peers(("198.51.100.0/24",)).has_host("198.51.100.7")


def test_anybody_is_whoever_connects_and_no_proxy_further_out() -> None:
    """Else a client could put a chain of its own making before what the proxy adds."""
    peers = Peers(("*", "10.0.0.0/8"))
    assert not peers.has_host("203.0.113.7")
    assert peers.has_host("10.1.2.3")


def test_what_is_remembered_is_bounded() -> None:
    peers = Peers(("10.0.0.0/8",))
    trust = Trust(ProxySettings(trusted_proxies=("10.0.0.0/8",)))
    for number in range(2 * MOST):
        host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        assert peers.has_host(host)
        scope = {
            "type": "http",
            "scheme": "http",
            "client": None,
            "server": SERVER,
            "headers": [(b"x-forwarded-for", host.encode())],
        }
        trust.amend(scope, True)
        assert scope["client"] == (host, 0)
    assert len(peers._known) <= MOST
    assert len(trust._known) <= MOST


class Behind(Bench):
    """A bench behind a proxy that is trusted, or not."""

    def __init__(self, **proxy: Any) -> None:
        self.scopes: list[dict[str, Any]] = []
        proxy = {"trusted_proxies": (PEER,), **proxy}
        super().__init__(
            self.app, config=dataclasses.replace(Config(), proxy=ProxySettings(**proxy))
        )

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


def seen(*headers: str, **proxy: Any) -> Any:
    """The scope that the app gets of a request with these headers."""
    found: list[Any] = []

    async def test() -> None:
        bench = Behind(**proxy)
        await bench.talk(get("/", *headers))
        found.extend(bench.scopes)

    run(test)
    return found[0]


def test_a_trusted_proxys_headers_change_client_and_scheme() -> None:
    scope = seen("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https")
    assert scope["client"] == ("203.0.113.7", 0)
    assert scope["scheme"] == "https"
    assert scope["server"] == SERVER
    assert dict(scope["headers"])[b"x-forwarded-for"] == b"203.0.113.7"


def test_lines_of_one_name_are_one_list() -> None:
    """As HAProxy writes it: its own line after whatever the client sent."""
    scope = seen("X-Forwarded-For: 198.51.100.66", "X-FORWARDED-FOR: 203.0.113.7")
    assert scope["client"] == ("203.0.113.7", 0)
    scope = seen(
        "Forwarded: for=198.51.100.66", "forwarded: for=203.0.113.7", proxy_headers="forwarded"
    )
    assert scope["client"] == ("203.0.113.7", 0)


@pytest.mark.parametrize(
    "header",
    ["X_Forwarded_For: 203.0.113.7", "X-Forwarded_For: 203.0.113.7", "X-Real-IP: 203.0.113.7"],
)
def test_other_names_mean_nothing(header: str) -> None:
    assert seen(header)["client"] == (PEER, 50000)


@pytest.mark.parametrize(
    ("family", "header"),
    [
        ("x-forwarded", "Forwarded: for=203.0.113.7;proto=https"),
        ("forwarded", "X-Forwarded-For: 203.0.113.7"),
        ("off", "X-Forwarded-For: 203.0.113.7"),
        ("off", "Forwarded: for=203.0.113.7"),
    ],
)
def test_the_family_that_was_not_chosen_is_never_looked_at(family: str, header: str) -> None:
    for trusted in ((PEER,), ()):
        scope = seen(header, proxy_headers=family, trusted_proxies=trusted)
        assert scope["client"] == (PEER, 50000)
        assert scope["scheme"] == "http"
        assert len(scope["headers"]) == 2


def test_others_have_them_taken_out(caplog: Any) -> None:
    """Frameworks have switches of their own that would believe them."""

    async def test() -> None:
        bench = Behind(trusted_proxies=("10.0.0.1",))
        for _ in range(3):
            await bench.talk(
                get(
                    "/",
                    "X-Forwarded-For: 203.0.113.7",
                    "X-Forwarded-Host: evil",
                    "X-Forwarded-Proto: https",
                )
            )
        for scope in bench.scopes:
            assert scope["client"] == (PEER, 50000)
            assert scope["scheme"] == "http"
            assert scope["headers"] == [(b"host", b"a")]

    run(test)
    (record,) = caplog.records
    assert "--trusted-proxies" in record.getMessage()
    assert record.fields == {"peer": PEER}


def test_host_is_taken_only_where_asked_for() -> None:
    told = (
        "X-Forwarded-Host: evil, shop.example",
        "X-Forwarded-Port: 8443",
        "X-Forwarded-Proto: https",
    )
    scope = seen(*told)
    assert dict(scope["headers"])[b"host"] == b"a"
    assert scope["server"] == SERVER
    scope = seen(*told, proxy_host=True)
    assert scope["headers"][0] == (b"host", b"shop.example:8443")
    assert scope["server"] == ("shop.example", 8443)
    scope = seen("X-Forwarded-Port: 443", "X-Forwarded-Proto: https", proxy_host=True)
    assert scope["headers"][0] == (b"host", b"a")
    assert scope["server"] == ("a", 443)


def test_a_told_host_does_not_make_up_for_a_wrong_one() -> None:
    async def test() -> None:
        told = b"X-Forwarded-Host: shop.example\r\n\r\n"
        for head in (b"", b"Host: a\r\nHost: b\r\n", b"Host: a/b\r\n"):
            bench = Behind(proxy_host=True)
            assert status_of(await bench.talk(b"GET / HTTP/1.1\r\n" + head + told)) == 400
            assert not bench.scopes
        bench = Behind(proxy_host=True)
        await bench.talk(b"GET / HTTP/1.0\r\nX-Forwarded-Port: 81\r\n\r\n")
        assert bench.scopes[0]["server"] == SERVER

    run(test)


def test_requests_of_one_connection_may_be_of_different_clients() -> None:
    """A proxy keeps its connections: what was told of one request says nothing of the next."""

    async def test() -> None:
        bench = Behind()
        for host in ("203.0.113.7", "", "203.0.113.8", "203.0.113.8", "", ""):
            await bench.talk(get("/", *([f"X-Forwarded-For: {host}"] if host else [])))
        clients = [scope["client"][0] for scope in bench.scopes]
        assert clients == ["203.0.113.7", PEER, "203.0.113.8", "203.0.113.8", PEER, PEER]

    run(test)


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
        b"X-Forwarded-For: 203.0.113.7\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"X-Forwarded-For: 203.0.113.7\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"GET / HTTP/1.0\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n",
    ],
)
def test_every_shape_of_request(request_: bytes) -> None:
    async def test() -> None:
        for size in (1, len(request_)):
            bench = Behind()
            await bench.talk(*(request_[at : at + size] for at in range(0, len(request_), size)))
            assert bench.scopes[0]["client"] == ("203.0.113.7", 0)

    run(test)


def test_the_client_of_a_chain_that_is_too_long_is_unknown() -> None:
    chain = ", ".join(["203.0.113.7", *[PEER] * HOPS])
    assert seen(f"X-Forwarded-For: {chain}")["client"] is None


def test_websocket_schemes() -> None:
    scope = {
        "type": "websocket",
        "scheme": "ws",
        "client": None,
        "server": SERVER,
        "headers": [
            (b"x-forwarded-proto", b"https"),
            (b"host", b"a"),
            (b"x-forwarded-port", b"443"),
        ],
    }
    Trust(ProxySettings(proxy_host=True)).amend(scope, True)
    assert scope["scheme"] == "wss"
    assert scope["server"] == ("a", 443)


def test_mount_points() -> None:
    assert [root_path(text) for text in ("", "/", "api", "/api/", "//api/v1//")] == [
        "",
        "",
        "/api",
        "/api",
        "/api/v1",
    ]
    paths: list[str] = []
    app = mounted(lambda scope, *_: paths.append(scope["path"]), "/api")
    for path in ("/", "/x", "/api", "/api/x", "/apix"):
        app({"path": path}, None, None)
    assert paths == ["/api/", "/api/x", "/api", "/api/x", "/api/apix"]
