"""Certificates, for real: read at start, renewed without a roll, and kept where they are of use."""

import contextlib
import os
import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.core.exits import Exit
from clusterd.ipc.client import Refused
from tests.support.authority import Authority, connect, serial
from tests.support.secure import PAIR, pids, secure
from tests.support.server import LIMIT, Server, running, serving


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def run(server: Server, *command: str) -> subprocess.CompletedProcess[str]:
    """A `clusterd` command against this cluster."""
    place = ["--runtime-dir", str(server.runtime)]
    argv = [sys.executable, "-m", "clusterd.cli.main", *command, *place]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        argv, cwd=server.place, env=env, capture_output=True, text=True, timeout=LIMIT
    )


def test_reload_certs_renews_without_a_roll(authority: Authority) -> None:
    context = authority.client()
    with secure(authority) as server:
        before, workers = serial(server.address, context), pids(server)
        with contextlib.closing(connect(server.address, context)) as kept:
            kept.request("GET", "/")
            kept.getresponse().read()
            authority.issue("server")
            done = run(server, "reload", "--certs")
            assert (done.returncode, done.stderr) == (0, "")
            assert "localhost" in done.stdout
            shown = {serial(server.address, context) for _ in range(10)}
            assert len(shown) == 1
            assert before not in shown
            kept.request("GET", "/")  # what is open stays
            assert kept.getresponse().status == 200
        assert pids(server) == workers
        # Whoever is started from now on has them, too.
        os.kill(min(workers), signal.SIGKILL)
        server.event("exited", pid=min(workers))
        server.event("readied")
        assert {serial(server.address, context) for _ in range(10)} == shown


def test_reload_certs_during_a_rollout_ends_with_the_new_pair_in_use(authority: Authority) -> None:
    """The rollout read the old pair when it began."""
    context = authority.client()
    with secure(authority, "--min-ready", "1s") as server:
        before = serial(server.address, context)
        server.signal(signal.SIGHUP)
        server.event("rollout_started")
        authority.issue("server")
        assert run(server, "reload", "--certs").returncode == 0
        assert server.ask("status")["generation"] == 2
        assert before not in {serial(server.address, context) for _ in range(6)}


def spoil(authority: Authority, how: str) -> str:
    """Make the pair on disk unusable; a part of what must be said of it."""
    place = authority.place
    match how:
        case "another key":
            authority.issue("other")
            (place / "other.key").rename(place / "server.key")
            return "is not the key of"
        case "no PEM":
            (place / "server.pem").write_text("nonsense")
            return "holds no certificate"
        case "no key":
            (place / "server.key").write_text("nonsense")
            return "holds no private key"
        case "cut":
            text = (place / "server.key").read_text()
            (place / "server.key").write_text(text[: len(text) // 2])
            return "cannot be used"
        case "a password":
            command = ["openssl", "ec", "-in", "server.key", "-aes128", "-passout", "pass:x"]
            subprocess.run(
                [*command, "-out", "server.key"],
                cwd=place,
                check=True,
                capture_output=True,
                timeout=LIMIT,
            )
            return "wants a password"
    (place / "server.pem").unlink()
    return "cannot be read"


SPOILT = ["another key", "no PEM", "no key", "cut", "a password", "missing"]


@pytest.mark.parametrize("how", SPOILT)
def test_a_pair_that_cannot_be_used_keeps_the_old_one(authority: Authority, how: str) -> None:
    context = authority.client()
    with secure(authority) as server:
        before, workers = serial(server.address, context), pids(server)
        why = spoil(authority, how)
        done = run(server, "reload", "--certs")
        assert done.returncode == Exit.FAILED
        assert why in done.stderr
        assert why in server.event("certificates_refused")["reason"]
        with pytest.raises(Refused, match=why):
            server.ask("reload", wait=True)
        assert {serial(server.address, context) for _ in range(6)} == {before}
        assert pids(server) == workers


@pytest.mark.parametrize("how", SPOILT)
def test_a_pair_that_cannot_be_used_at_start_is_a_wrong_setting(
    authority: Authority, how: str
) -> None:
    authority.issue("server")
    why = spoil(authority, how)
    with running(authority.place, "secret:app", *PAIR) as server:
        assert server.wait() == Exit.CONFIG
        assert why in server.log()
        assert "server." in server.log()


def test_an_encrypted_key_is_opened_with_its_password(authority: Authority) -> None:
    authority.issue("server")
    spoil(authority, "a password")
    word = authority.place / "word"
    word.write_text("x\nsecond line\n")
    with secure(authority, "--tls-password-file", str(word)) as server:
        assert serial(server.address, authority.client())
        word.write_text("y\n")
        with pytest.raises(Refused, match="has another password"):
            server.ask("certificates")


def test_an_expired_certificate_is_used_and_warned_of(authority: Authority) -> None:
    authority.issue("server", expired=True)
    with secure(authority) as server:
        (event,) = [event for event in server.seen if event["kind"] == "trouble"]
        assert "expired" in event["reason"]
        with pytest.raises(ssl.SSLError, match="expired"):
            serial(server.address, authority.client())


def test_a_reload_brings_the_pair_that_is_on_disk(authority: Authority) -> None:
    context = authority.client()
    with secure(authority) as server:
        before = serial(server.address, context)
        authority.issue("server")
        server.signal(signal.SIGHUP)
        server.event("rollout_finished")
        assert before not in {serial(server.address, context) for _ in range(6)}
        # And it is renewed for the generation that a rollback would bring back.
        authority.issue("server")
        server.ask("certificates")
        now = serial(server.address, context)
        server.ask("rollback", wait=True)
        assert {serial(server.address, context) for _ in range(6)} == {now}


@pytest.mark.parametrize("preload", ["never", "unsafe"])
def test_workers_that_import_by_themselves_have_certificates_too(
    authority: Authority, preload: str
) -> None:
    app = "secret:app"
    options = ["--preload", "never"]
    if preload == "unsafe":
        (authority.place / "threads.py").write_text(
            "import threading\nfrom secret import app\n"
            "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        )
        app, options = "threads:app", ["--app-dir", str(authority.place)]
    authority.issue("server")
    context = authority.client()
    here = str(Path(__file__).parents[1] / "apps") + os.pathsep + str(Path(__file__).parents[2])
    with serving(authority.place, app, *PAIR, *options, PYTHONPATH=here) as server:
        before, workers = serial(server.address, context), pids(server)
        authority.issue("server")
        server.ask("certificates")
        shown = {serial(server.address, context) for _ in range(6)}
        assert before not in shown
        assert pids(server) == workers
        os.kill(min(workers), signal.SIGKILL)
        server.event("exited", pid=min(workers))
        server.event("readied")
        assert {serial(server.address, context) for _ in range(10)} == shown


def test_without_tls_there_is_nothing_to_renew(tmp_path: Path) -> None:
    off = pytest.raises(Refused, match="TLS is off")
    with serving(tmp_path, "secret:app", workers=1) as server, off:
        server.ask("certificates")


def test_keys_are_on_no_disk_and_in_no_argument(authority: Authority) -> None:
    temporary = authority.place / "temporary"
    temporary.mkdir()
    before = temporary.stat().st_mtime_ns
    with secure(authority, TMPDIR=str(temporary)) as server:
        authority.issue("server")
        assert run(server, "reload", "--certs").returncode == 0
        key = authority.place / "server.key"
        secret = key.read_bytes().splitlines()[1]
        for pid in server.family():
            assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert secret not in Path(f"/proc/{pid}/environ").read_bytes()
        holding = {target for pid in server.family() for target in holders(pid, secret)}
        assert holding == {"/memfd:clusterd-certificates (deleted)"}
        assert list(files_with(secret, authority.place, server.runtime)) == [key]
    # Not for a moment either: a file that was removed has left its mark.
    assert temporary.stat().st_mtime_ns == before


def holders(pid: int, secret: bytes) -> Iterator[str]:
    """The files that a process has open and that hold the secret, also those without a name."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed
            if stat.S_ISREG(link.stat().st_mode) and secret in link.read_bytes():
                yield os.readlink(link)


def files_with(secret: bytes, *places: Path) -> Iterator[Path]:
    for place in places:
        for path in place.rglob("*"):
            if path.is_file() and secret in path.read_bytes():
                yield path
