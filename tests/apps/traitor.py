"""An application that uses what its process holds against the master.

At its import it may make a newborn lie (LIE names a file that is removed by the first newborn that
does, and what it claims); on request it writes to the descriptor of its worker's channel.
"""

import ctypes
import gc
import json
import os
import socket
import struct
import threading

from clusterd.ipc.channel import Channel
from clusterd.ipc.messages import Hello
from clusterd.zygote import main
from tests.apps.tell import answer, lifespan, who

CLAIMS = {"master": os.getppid, "init": lambda: 1, "all": lambda: -1, "none": lambda: 0}
PTRACE_SEIZE, TRACEEXIT, PR_SET_PTRACER = 0x4206, 1 << 6, 0x59616D61  # ptrace(2), prctl(2)
MARK, _, CLAIM = os.environ.get("LIE", "").partition("=")


def hello(pid, slot, row, generation):
    try:
        os.unlink(MARK)
    except OSError:
        return Hello(pid, slot, row, generation)
    return Hello(CLAIMS[CLAIM](), slot, row, generation)


if MARK:
    main.Hello = hello


def channel():
    (found,) = [one for one in gc.get_objects() if type(one) is Channel and one.fileno() >= 0]
    return found


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["path"] in ("/traced", "/held", "/held-by-a-thread"):
        options = 0 if scope["path"] == "/traced" else TRACEEXIT
        tracer = traced(options, in_thread=scope["path"] == "/held-by-a-thread")
        return await answer(send, {"pid": os.getpid(), "tracer": tracer})
    act = {"/noise": noise, "/texts": texts, "/blocks": blocks}.get(scope["path"])
    if act is not None:
        await answer(send, {"pid": os.getpid()})
        return act(channel().sock)
    return await who(scope, receive, send)


def traced(options, in_thread):
    """Start a process that traces ours, and never waits for it. Return its pid."""
    libc, worker = ctypes.CDLL(None), os.getpid()
    libc.prctl(PR_SET_PTRACER, ctypes.c_ulong(-1))
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        theirs.recv(1)

        def trace():
            seized = libc.ptrace(PTRACE_SEIZE, worker, None, ctypes.c_void_p(options))
            theirs.send(b"%d %d" % (seized, os.getpid()))
            os.closerange(0, 4096)
            threading.Event().wait()

        if in_thread:
            threading.Thread(target=trace).start()
            threading.Event().wait()
        trace()
    os.waitpid(pid, 0)  # any signal to a traced process stops it, and so would SIGCHLD
    ours.send(b"!")
    seized, pid = map(int, ours.recv(64).split())
    ours.close()
    theirs.close()
    assert seized == 0
    return pid


def noise(sock):
    sock.send(b"noise")


def texts(sock):
    """Write as fast as the master reads, until it does no more."""
    text = json.dumps(["Unwell", {"kind": "busy", "reason": "x" * 16000, "text": "y" * 44000}])
    sock.setblocking(True)
    try:
        while True:
            sock.send(text.encode())
    except OSError:
        os.read(os.pipe()[0], 1)  # until we are killed


def blocks(sock):
    """Send a connection whose last close waits for an hour."""
    listener = socket.create_server(("127.0.0.1", 0))
    mine = socket.create_connection(listener.getsockname())
    mine.setblocking(False)
    try:
        while True:
            mine.send(bytes(65536))
    except BlockingIOError:
        pass
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    try:
        socket.send_fds(sock, [b'["Draining", {}]'], [mine.fileno()])
    except OSError:
        os.kill(os.getpid(), 9)  # refused: the test waits for our end
