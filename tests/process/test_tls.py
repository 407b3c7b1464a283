"""TLS, for real: who is shown what, who is let in, what goes through it, and how it ends."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.sync.client

from tests.support.authority import Authority, connect, read_all, secured, serial
from tests.support.secure import PAIR, pids, secure, told
from tests.support.server import LIMIT, Server, serving

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


# --- what clients get


def test_curl_and_httpx_are_served_over_a_kept_connection(authority: Authority) -> None:
    with secure(authority) as server:
        url = f"https://localhost:{server.address[1]}/"
        curl = ["curl", "-sS", "--cacert", authority.path, "-w", "%{num_connects} ", url, url]
        done = subprocess.run(curl, capture_output=True, text=True, timeout=LIMIT, check=True)
        assert done.stdout.count('"scheme": "https"') == 2
        assert done.stdout.endswith("0 ")  # the second came over the first's connection
        reply = told(server, authority.client())
        assert reply["scheme"] == "https"
        assert reply["client"][0] == "127.0.0.1"


def test_the_scope_tells_of_tls_what_the_specification_wants(authority: Authority) -> None:
    """ASGI, TLS extension 0.2."""
    with secure(authority) as server:
        tls = told(server, authority.client())["tls"]
    certificate = (authority.place / "server.pem").read_text()
    assert tls["server_cert"].strip() in certificate
    assert tls["tls_version"] == 0x0304
    assert tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)  # RFC 8446, B.4
    assert tls["client_cert_chain"] == []
    assert tls["client_cert_name"] is None
    assert tls["client_cert_error"] is None


def test_each_name_is_shown_its_certificate(authority: Authority) -> None:
    pairs = {
        "first": ("a.example",),
        "second": ("b.example", "*.c.example"),
    }
    options: list[str] = []
    serials = {}
    for stem, names in pairs.items():
        certificate, key = authority.issue(stem, *names)
        options += ["--tls-cert", certificate, "--tls-key", key]
        serials[stem] = ssl._ssl._test_decode_cert(certificate)["serialNumber"]  # type: ignore[attr-defined]
    context = authority.client()
    careless = authority.client()
    careless.check_hostname = False
    with serving(authority.place, "secret:app", *options) as server:
        shown = {
            "a.example": "first",
            "b.example": "second",
            "B.Example": "second",
            "x.c.example": "second",
            "x.y.c.example": "first",
            "c.example": "first",
            "unknown.example": "first",
        }
        for name, stem in shown.items():
            fits = stem == "second" or name == "a.example"
            assert serial(server.address, context if fits else careless, name) == serials[stem]


@pytest.mark.parametrize("way", ["optional", "required"])
def test_clients_certificates(authority: Authority, way: str) -> None:
    mine = authority.issue("client", "client.example")
    stranger = Authority(authority.place, "stranger").issue("theirs", "client.example")
    options = ["--tls-ca", authority.path, "--tls-client-cert", way]
    with secure(authority, *options) as server:
        tls = told(server, authority.client(*mine))["tls"]
        leaf = Path(mine[0]).read_text()
        assert tls["client_cert_chain"][0].strip() in leaf
        assert tls["client_cert_name"].startswith("OU=Testing cert")
        for context, welcome in (
            (authority.client(), way == "optional"),
            (authority.client(*stranger), False),
        ):
            if welcome:
                assert told(server, context)["tls"]["client_cert_chain"] == []
            else:
                # The client of TLS 1.3 hears of it after its own last word.
                with pytest.raises(OSError, match=r"(?i)alert|reset"):  # noqa: SIM117
                    with secured(server.address, context) as sock:
                        sock.sendall(LAST)
                        read_all(sock)


def test_old_versions_are_refused(authority: Authority) -> None:
    with secure(authority, "--tls-min-version", "1.3") as server:
        old = authority.client()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match=r"(?i)version"):
            serial(server.address, old)
        assert serial(server.address, authority.client())
    only = "ECDHE-ECDSA-AES128-GCM-SHA256"
    with secure(authority, "--tls-ciphers", only) as server, secured(server.address, old) as sock:
        assert sock.cipher() == (only, "TLSv1.2", 128)


def test_http1_is_agreed_on_by_name_and_by_silence(authority: Authority) -> None:
    with secure(authority, "--http2", "off") as server:
        for offered in (["h2", "http/1.1"], ["http/1.1"], ["h2"], []):
            context = authority.client()
            if offered:
                context.set_alpn_protocols(offered)
            with secured(server.address, context) as sock:
                agreed = "http/1.1" if "http/1.1" in offered else None
                assert sock.selected_alpn_protocol() == agreed
                sock.sendall(LAST)
                assert read_all(sock).startswith(b"HTTP/1.1 200 ")


def test_a_session_is_resumed_with_any_worker(authority: Authority) -> None:
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # Python's client knows the session at once
    with secure(authority, workers=3) as server, contextlib.ExitStack() as stack:
        session = stack.enter_context(secured(server.address, context)).session
        served = set()
        for _ in range(12):
            sock = stack.enter_context(secured(server.address, context, session=session))
            assert sock.session_reused
            sock.sendall(GET)
            served.add(json.loads(sock.recv(65536).partition(b"\r\n\r\n")[2])["pid"])
        assert len(served) == 3


def test_a_name_that_is_no_name_fills_no_log(authority: Authority) -> None:
    options: list[str] = []
    for stem in ("first", "second"):
        certificate, key = authority.issue(stem, f"{stem}.example")
        options += ["--tls-cert", certificate, "--tls-key", key]
    context = authority.client()
    hello = client_hello(context, "second.example").replace(b"second.ex", b"secon\xff.ex")
    with serving(authority.place, "secret:app", *options, workers=1) as server:
        with socket.create_connection(server.address, LIMIT) as sock:
            sock.sendall(hello)
            assert read_all(sock)[:1] == b"\x15"  # an alert
        assert serial(server.address, context, "second.example")
        assert "Unicode" not in server.log()


def test_an_address_may_stay_plain(authority: Authority) -> None:
    place = authority.place / "s.sock"
    options = ["-b", "127.0.0.1:0", "-b", "127.0.0.1:0,tls=off", "-b", f"unix:{place}"]
    with secure(authority, *options) as server:
        names = [event["address"] for event in server.find("listening")]
        (plain,) = [name for name in names if name.endswith(",tls=off")]
        assert serial(server.address, authority.client())
        port = int(plain.removesuffix(",tls=off").rpartition(":")[2])
        for family, where in (
            (socket.AF_INET, ("127.0.0.1", port)),
            (socket.AF_UNIX, str(place)),
        ):
            with socket.socket(family) as sock:
                sock.settimeout(LIMIT)
                sock.connect(where)
                sock.sendall(LAST)
                answer = read_all(sock)
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert b'"scheme": "http"' in answer
                assert b'"tls": null' in answer


def test_plain_http_on_a_tls_port_is_answered_400_and_noise_is_closed(
    authority: Authority,
) -> None:
    with secure(authority) as server:
        for sent, status in ((GET, b"HTTP/1.1 400 "), (b"\0\1\2\3", b"")):
            with socket.create_connection(server.address, timeout=LIMIT) as sock:
                sock.sendall(sent)
                answer = read_all(sock)
                assert answer.startswith(status) if status else not answer
        assert "level" not in server.log() or '"error"' not in server.log()


def test_a_websocket_is_secure_too(authority: Authority) -> None:
    with secure(authority) as server:
        url = f"wss://localhost:{server.address[1]}/"
        with websockets.sync.client.connect(url, ssl=authority.client()) as socket_:
            socket_.send("hello")
            assert json.loads(socket_.recv()) == ["wss", 0x0304, "hello"]


def test_a_wsgi_app_is_told_https(authority: Authority) -> None:
    (authority.place / "old.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [environ['wsgi.url_scheme'].encode()]\n"
    )
    authority.issue("server")
    options = [*PAIR, "--app-dir", str(authority.place)]
    with serving(authority.place, "old:app", *options) as server:
        answer = httpx.get(
            f"https://localhost:{server.address[1]}/", verify=authority.client(), timeout=LIMIT
        )
        assert answer.text == "https"


def test_a_proxy_header_comes_before_tls(authority: Authority) -> None:
    """Also in one packet with the first of the handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with secure(authority, "--proxy-protocol") as server:
        for joined in (False, True):
            tls = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
            with socket.create_connection(server.address, LIMIT) as sock:
                header = b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 443\r\n"
                if not joined:
                    sock.sendall(header)
                step = stepper(sock, incoming, outgoing, header if joined else b"")
                step(tls.do_handshake)
                step(partial(tls.write, GET))
                answer = step(partial(tls.read, 65536))
                assert b'"client": ["192.0.2.7", 1000]' in answer
                assert b'"scheme": "https"' in answer


def stepper(
    sock: socket.socket, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, first: bytes = b""
) -> Callable[[Callable[[], Any]], Any]:
    """Does one thing on TLS over a socket at a time; `first` goes before all that is encrypted."""

    def step(act: Callable[[], Any]) -> Any:
        nonlocal first
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                sock.sendall(first + outgoing.read())
                first = b""
                data = sock.recv(65536)
                incoming.write(data) if data else incoming.write_eof()
            else:
                sock.sendall(outgoing.read())
                return done

    return step


# --- through it in both directions


def test_large_bodies_go_both_ways(authority: Authority) -> None:
    body = os.urandom(1024 * 1024) * 16
    client = httpx.Client(verify=authority.client(), timeout=LIMIT)
    with secure(authority) as server, client:
        url = f"https://localhost:{server.address[1]}"
        assert client.post(f"{url}/swallow", content=body).json() == len(body)
        assert len(client.get(f"{url}/pour").content) == 16 * 1024 * 1024


def test_what_comes_goes_back_meanwhile(authority: Authority) -> None:
    """Backpressure both ways: curl sends and receives at once."""
    sent, got = authority.place / "sent", authority.place / "got"
    sent.write_bytes(os.urandom(1024 * 1024) * 16)
    with secure(authority) as server:
        url = f"https://localhost:{server.address[1]}/echo"
        curl = ["curl", "-sS", "--cacert", authority.path, "-T", str(sent), "-o", str(got), url]
        subprocess.run(curl, timeout=LIMIT, check=True)
    assert got.read_bytes() == sent.read_bytes()


def test_a_client_that_does_not_read_costs_no_memory(authority: Authority) -> None:
    def resident(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    with secure(authority, workers=1) as server:
        (pid,) = pids(server)
        told(server, authority.client())
        before = resident(pid)
        with secured(server.address, authority.client()) as sock:
            sock.sendall(GET.replace(b" / ", b" /pour "))
            assert sock.recv(1)
            told(server, authority.client())  # others are served
            assert resident(pid) - before < 8 * 1024 * 1024
            assert sock.recv(65536)


def test_a_refusal_reaches_a_client_that_is_still_sending(authority: Authority) -> None:
    """It is not reset by what it goes on sending; the end is said with close_notify."""
    with secure(authority, "--limit-body", "1000") as server:
        head = b"POST /swallow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 400000\r\n\r\n"
        context = authority.client()
        with secured(server.address, context) as sock:
            sock.sendall(head + bytes(400000))
            assert read_all(sock).startswith(b"HTTP/1.1 413 ")


def test_a_goodbye_before_the_answer_still_gets_it(authority: Authority) -> None:
    """A client may end its direction first (RFC 8446, 6.1)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with secure(authority) as server, socket.create_connection(server.address, LIMIT) as sock:
        step = stepper(sock, incoming, outgoing)
        step(tls.do_handshake)
        tls.write(GET)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        sock.sendall(outgoing.read())
        answer = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while piece := step(partial(tls.read, 65536)):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")


# --- drain and floods


def test_a_reload_under_load_loses_no_request(authority: Authority) -> None:
    context = authority.client()
    failed: list[str] = []
    over = threading.Event()

    def load(server: Server, fresh: bool) -> None:
        client = connect(server.address, context)
        while not over.is_set():
            try:
                client.request("GET", "/")
                reply = client.getresponse()
                json.loads(reply.read())
                if fresh:
                    client.close()
            except Exception as error:
                failed.append(repr(error))
        client.close()

    with secure(authority) as server:
        loads = [threading.Thread(target=load, args=(server, fresh)) for fresh in (True, False) * 2]
        for thread in loads:
            thread.start()
        try:
            for _ in range(2):
                server.ask("reload", wait=True)
                server.ask("certificates")
        finally:
            over.set()
            for thread in loads:
                thread.join()
    assert failed == []


def test_idle_connections_end_politely_at_a_reload(authority: Authority) -> None:
    """Nobody can take them over: the next answer is the last, and silence ends with goodbye."""
    context = authority.client()
    with secure(authority) as server, contextlib.ExitStack() as stack:
        speaking, silent = (stack.enter_context(secured(server.address, context)) for _ in range(2))
        for sock in (speaking, silent):
            sock.sendall(GET)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        server.ask("reload", wait=True)
        speaking.sendall(GET)
        answer = read_all(speaking)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer
        assert read_all(silent) == b""


def test_half_finished_handshakes_starve_nobody(authority: Authority) -> None:
    """Three hundred of them, at 20 connections a worker: they displace one another."""
    context = authority.client()
    options = ["--max-connections", "20", "--tls-handshake-timeout", "60"]
    with secure(authority, *options) as server, contextlib.ExitStack() as stack:
        hello = client_hello(context)
        with contextlib.closing(connect(server.address, context)) as kept:
            kept.request("GET", "/")
            assert kept.getresponse().read()
            for number in range(300):
                sock = stack.enter_context(socket.create_connection(server.address, LIMIT))
                with contextlib.suppress(OSError):  # shed already
                    sock.sendall(hello[: 1 + number % len(hello)])
                if number % 30 == 0:
                    assert told(server, context)["scheme"] == "https"
                    kept.request("GET", "/")
                    assert kept.getresponse().read()
        assert all(worker["connections"] <= 21 for worker in server.workers())


def client_hello(context: ssl.SSLContext, name: str = "localhost") -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def test_a_handshake_has_a_deadline(authority: Authority) -> None:
    with secure(authority, "--tls-handshake-timeout", "0.1", workers=1) as server:
        for sent in (b"", client_hello(authority.client())[:50]):
            with socket.create_connection(server.address, timeout=LIMIT) as sock:
                sock.sendall(sent)
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(1) == b""


def test_a_client_that_dies_in_its_handshake_leaves_nothing(authority: Authority) -> None:
    with secure(authority, workers=1) as server:
        for _ in range(20):
            with socket.create_connection(server.address, timeout=LIMIT) as sock:
                sock.sendall(client_hello(authority.client()))
                assert sock.recv(1)  # ours is on its way
                reset = b"\1\0\0\0\0\0\0\0"
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        told(server, authority.client())
        assert "Traceback" not in server.log()


def test_a_stop_does_not_wait_for_half_a_handshake(authority: Authority) -> None:
    options = ["--tls-handshake-timeout", "60", "--graceful-timeout", "10m"]
    with secure(authority, *options) as server, contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(server.address, LIMIT))
        sock.sendall(client_hello(authority.client())[:50])
        told(server, authority.client())
        assert server.stop() == 0
