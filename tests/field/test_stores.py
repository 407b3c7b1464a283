"""The servers that the tests of this directory lend to applications."""

import socket


def test_postgres_and_redis_answer(postgres: str, redis: str) -> None:
    host, _, port = postgres.partition(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    with socket.create_connection((host, 6379), timeout=5) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
