"""A WSGI application that says who answers, and does what a test tells it to."""

import hashlib
import json
import os
import socket

VERSION = os.environ.get("VERSION", "1")
BLOCK = bytes(range(256)) * 256


def app(environ, start_response):
    act = ROUTES.get(environ["PATH_INFO"], who)
    return act(environ, start_response)


def answer(start_response, body):
    body = json.dumps(body).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def who(environ, start_response):
    return answer(start_response, {"pid": os.getpid(), "version": VERSION})


def held(environ, start_response):
    """Tell the test that the request has begun; wait until it says go on."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(os.environ["GATE"])
    sock.sendall(str(os.getpid()).encode())
    sock.recv(1)
    sock.close()
    return who(environ, start_response)


def upload(environ, start_response):
    size = 0
    while piece := environ["wsgi.input"].read(100_000):
        size += len(piece)
    return answer(start_response, {"pid": os.getpid(), "size": size})


def digest(environ, start_response):
    """Tell what came, so that the test sees whether it is the same to the byte."""
    found = hashlib.sha256()
    while piece := environ["wsgi.input"].read(100_000):
        found.update(piece)
    return answer(start_response, found.hexdigest())


def download(environ, start_response):
    """As many MiB as the query says, in pieces."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    for _ in range(16 * int(environ["QUERY_STRING"])):
        yield BLOCK


def whole(environ, start_response):
    """As many MiB as the query says, in one piece."""
    body = BLOCK * (16 * int(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


ROUTES = {
    "/held": held,
    "/upload": upload,
    "/digest": digest,
    "/download": download,
    "/whole": whole,
}


def either(*args):
    """Neither clearly ASGI nor clearly WSGI."""
    return app(*args)
