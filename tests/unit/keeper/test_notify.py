"""The notify protocol: who is heard, and what happens to descriptors that come along."""

import array
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from clusterd.keeper.notify import NotifySocket, assignments, is_below

SAY = """
import os, socket, sys
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
name = sys.argv[1].replace("@", chr(0))
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", name)
"""


def tell(address: str, body: bytes, *fds: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sock.sendmsg([body], rights, 0, address.replace("@", "\0"))


def test_assignments_of_each_message_in_order() -> None:
    hearing = NotifySocket()
    tell(hearing.address, b"READY=1\nSTATUS=a=b\nnonsense\n\xff=\xfe")
    tell(hearing.address, b"STOPPING=1")
    assert hearing.receive() == [
        {"READY": "1", "STATUS": "a=b", "\ufffd": "\ufffd"},
        {"STOPPING": "1"},
    ]
    assert hearing.receive() == []
    hearing.close()


def test_a_barrier_is_answered_and_nothing_is_stored() -> None:
    hearing = NotifySocket()
    read, write = os.pipe()
    tell(hearing.address, b"BARRIER=1", write)
    os.close(write)
    before = len(os.listdir("/proc/self/fd"))
    assert select.select([read], [], [], 0) == ([], [], [])
    assert hearing.receive() == [{"BARRIER": "1"}]
    assert os.read(read, 1) == b""  # its only other end was in the message
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(read)
    hearing.close()


@pytest.mark.parametrize("below", [False, True])
def test_another_user_is_heard_only_from_below(below: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip("only the superuser can become another user")
    hearing = NotifySocket(lambda _: below)
    for user in ([], ["65534"]):
        subprocess.run([sys.executable, "-c", SAY, hearing.address, *user], check=True)
    assert hearing.receive() == [{"READY": "1"}] * (1 + below)
    hearing.close()


def test_below_are_children_and_theirs() -> None:
    code = "sleep 60 & echo $!; wait"
    child = subprocess.Popen(["sh", "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    theirs = int(child.stdout.readline())
    assert is_below(theirs)
    assert is_below(child.pid)
    assert not is_below(os.getppid())
    assert not is_below(0)
    os.kill(theirs, signal.SIGKILL)
    child.communicate()


def test_whatever_comes_is_read() -> None:
    assert assignments(b"") == {}
    assert assignments(b"=\n==\nA") == {"": "="}
