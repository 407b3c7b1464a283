"""What a child has that is started as another user, and what is said where it cannot be."""

import contextlib
import json
import os
import pwd
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.config.running import LimitSettings
from clusterd.core.errors import ConfigError
from clusterd.kernel.child import environment
from clusterd.kernel.limited import closed_part, has_rights_to_lose, start_ahead, start_limited
from clusterd.kernel.privileges import identity

superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = pwd.getpwnam("nobody")

# Signals 32 and 33, which no process can set. glibc's posix_spawn(3) leaves 32 ignored in what it
# starts, and `subprocess` of Python 3.13 uses that: so are the processes of a parallel test run.
OF_GLIBC = 0b11 << 31


@pytest.fixture
def reported() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends: what goes wrong in the child is written to one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def outcome(
    ends: tuple[socket.socket, socket.socket], command: list[str], **limits: object
) -> tuple[int, str]:
    """The exit status of a child, and what it reported."""
    ours, theirs = ends

    def failed(error: ConfigError) -> None:
        theirs.send(f"{error.message}|{error.remedy}".encode())

    settings = LimitSettings(**limits)  # type: ignore[arg-type]
    pid = start_limited(command, [theirs.fileno()], settings, failed)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    ours.setblocking(False)
    try:
        return status, ours.recv(4096).decode()
    except BlockingIOError:
        return status, ""


def test_what_a_child_cannot_have_is_reported_by_it(
    reported: tuple[socket.socket, socket.socket],
) -> None:
    status, said = outcome(reported, ["/bin/true"], user="no-such-user")
    assert (status, said) == (4, "user: there is no user 'no-such-user'|")
    beyond = int(Path("/proc/sys/fs/nr_open").read_text()) + 1
    status, said = outcome(reported, ["/bin/true"], limit_nofile=beyond)
    assert status == 4
    assert said.startswith("limit_nofile: it cannot be had: ")
    status, said = outcome(reported, ["/no/such/program"])
    assert status == 4
    assert "/no/such/program" in said


@superuser
def test_more_open_files_than_the_child_may_have_do_not_hurt(
    reported: tuple[socket.socket, socket.socket],
) -> None:
    """A master has some for each worker, and to look up the groups of a user takes one more."""
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(open(os.devnull))
        done = outcome(reported, ["/bin/true"], user="root:daemon", limit_nofile=32)
    assert done == (0, "")


@superuser
def test_an_interpreter_that_is_closed_to_the_user_is_named(
    reported: tuple[socket.socket, socket.socket],
) -> None:
    with tempfile.TemporaryDirectory() as folder:  # of mode 0700
        python = Path(folder, "python")
        python.symlink_to(sys.executable)
        status, said = outcome(reported, [str(python)], user="nobody")
    assert status == 4
    assert said.startswith(
        f"user: nobody may not enter or read {folder}, where the interpreter lies ({python})|"
    )
    assert "Let nobody read it" in said


def test_the_first_closed_directory_is_the_one_to_open(tmp_path: Path) -> None:
    assert closed_part(str(tmp_path / "a" / "b")) == str(tmp_path / "a")  # missing is closed, too
    assert closed_part(str(tmp_path)) == str(tmp_path)


def test_a_child_begins_with_defaults_and_with_what_it_is_to_keep(
    reported: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """Signals that we ignore or block it does not; of our descriptors it has only those named."""
    file, kept = tmp_path / "status", reported[1].fileno()
    look = ["/bin/cp", "/proc/self/status", str(file)]  # no shell, which unblocks all by itself
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        assert outcome(reported, look, umask=0o077) == (0, "")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    found = dict(line.split(":", 1) for line in file.read_text().splitlines())
    assert outcome(reported, ["/bin/sh", "-c", f"ls /proc/self/fd > {file}.fds"]) == (0, "")
    fds = {int(number) for number in Path(f"{file}.fds").read_text().split()}
    assert kept in fds
    assert reported[0].fileno() not in fds
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # Python's own doing
    assert int(found["SigIgn"], 16) & ~OF_GLIBC == int(found["SigBlk"], 16) == 0
    assert found["Umask"].strip() == "0077"


def test_another_users_child_gets_that_users_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAIL", "SUDO_COMMAND", "NOTIFY_SOCKET", "PYTHONPATH", "LD_PRELOAD", "MAILGUN"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv("SUDO_UID", raising=False)
    ours, theirs = environment(), environment(identity("nobody"))
    assert "NOTIFY_SOCKET" not in ours
    assert ours["MAIL"] == ours["SUDO_COMMAND"] == ours["PYTHONPATH"] == "x"
    assert not {"MAIL", "SUDO_COMMAND", "NOTIFY_SOCKET"} & set(theirs)
    assert theirs["PYTHONPATH"] == theirs["LD_PRELOAD"] == theirs["MAILGUN"] == "x"  # root's word
    wanted = {"USER": "nobody", "HOME": NOBODY.pw_dir, "SHELL": NOBODY.pw_shell}
    assert wanted.items() <= theirs.items()
    numbered = environment(identity("54321:7"))
    assert (numbered["HOME"], numbered["SHELL"], numbered["USER"]) == ("/", "/bin/sh", "54321")


def test_under_sudo_loaders_are_not_told_by_the_one_who_called_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SUDO_UID", "PYTHONPATH", "PYTHONHOME", "LD_PRELOAD", "LANG"):
        monkeypatch.setenv(name, "1")
    theirs = environment(identity("nobody"))
    assert not {"SUDO_UID", "PYTHONPATH", "PYTHONHOME", "LD_PRELOAD"} & set(theirs)
    assert theirs["LANG"] == "1"


@superuser
def test_only_where_a_user_is_named_there_are_rights_to_lose() -> None:
    assert has_rights_to_lose("nobody")
    assert has_rights_to_lose("no-such-user")  # the child says so
    assert not has_rights_to_lose("")


@superuser
def test_a_zygote_that_cannot_begin_says_why_before_it_is_gone() -> None:
    def report(end: socket.socket, error: ConfigError) -> None:
        end.send(json.dumps(error.message).encode())

    ahead = start_ahead(LimitSettings(user="no-such-user"), report)
    assert ahead is not None
    with ahead:
        os.waitid(os.P_PID, ahead.pid, os.WEXITED | os.WNOWAIT)
        assert json.loads(ahead.sock.recv(4096)) == "user: there is no user 'no-such-user'"
