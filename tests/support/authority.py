"""Certificates for tests, made when they are wanted, and how to look at what a server shows."""

import http.client
import socket
import ssl
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import trustme

from tests.support.server import LIMIT


class Authority:
    """One that issues certificates into a directory, and clients that trust it."""

    def __init__(self, place: Path, name: str = "ca") -> None:
        self.place = place
        self.name = name

    @cached_property
    def ca(self) -> trustme.CA:
        return trustme.CA(organization_name=self.name)

    @cached_property
    def path(self) -> str:
        """The file that clients trust."""
        path = self.place / f"{self.name}.pem"
        self.ca.cert_pem.write_to_path(path)
        return str(path)

    def issue(self, stem: str, *names: str, expired: bool = False) -> tuple[str, str]:
        """A certificate for server names, and its key: the paths of both, written over."""
        until = datetime.now(UTC) + timedelta(days=-1 if expired else 30)
        leaf = self.ca.issue_cert(*(names or ("localhost", "127.0.0.1")), not_after=until)
        certificate, key = self.place / f"{stem}.pem", self.place / f"{stem}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        return str(certificate), str(key)

    def client(self, *pair: str) -> ssl.SSLContext:
        """What a client of ours wants; `pair` is the certificate that it shows, and its key."""
        context = ssl.create_default_context(cafile=self.path)
        if pair:
            context.load_cert_chain(*pair)
        return context


Address = tuple[str, int]


def secured(
    address: Address,
    context: ssl.SSLContext,
    name: str = "localhost",
    session: ssl.SSLSession | None = None,
) -> ssl.SSLSocket:
    """A client's connection, its handshake done. An end without close_notify is an error."""
    sock = socket.create_connection(address, timeout=LIMIT)
    try:
        return context.wrap_socket(
            sock, server_hostname=name, suppress_ragged_eofs=False, session=session
        )
    except BaseException:
        sock.close()
        raise


def serial(address: Address, context: ssl.SSLContext, name: str = "localhost") -> str:
    """The number of the certificate that a new connection is shown."""
    with secured(address, context, name) as sock:
        shown = sock.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


def connect(address: Address, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    """A keep-alive client."""
    return http.client.HTTPSConnection("localhost", address[1], timeout=LIMIT, context=context)


def read_all(sock: socket.socket) -> bytes:
    """Everything until the other side ends it."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data
