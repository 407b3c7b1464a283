"""`clusterd bench` as its users have it: what it leaves behind, whatever becomes of it."""

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.bench import store
from clusterd.cli import main
from clusterd.core.exits import Exit
from tests.support.authority import Authority
from tests.support.offspring import Offspring
from tests.support.proxies import doors, needs_nginx, nginx, port_of
from tests.support.scripted import OK, Scripted
from tests.support.server import APPS, LIMIT, ROOT

INTERRUPTED = 128 + signal.SIGINT
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
COMMAND = [sys.executable, "-m", "clusterd.cli.main", "bench"]


@pytest.fixture
def offspring() -> Iterator[Offspring]:
    """Nothing that a test starts outlives it."""
    with Offspring() as found:
        yield found


def bench(place: Path, *words: str, wrapper: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Its exit status, what it printed, and what it complained of."""
    done = subprocess.run(
        [*wrapper, *COMMAND, *words],
        cwd=place,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=2 * LIMIT,  # pictures take their time where the cores are for others too
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def begun(place: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    """The same while it runs, in a session of its own as at a terminal of its own."""
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=place,
        env={**ENV, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.timeout(120)
def test_one_worker_against_two(tmp_path: Path, offspring: Offspring) -> None:
    """The table and the report tell the same, and nothing is left."""
    words = ("tell:app", "--app-dir", str(APPS), "--workers", "1,2", "--report", "it")
    code, said, complained = bench(tmp_path, *words, "-d", "500ms", "-c", "8", "--rounds", "1")
    assert code == Exit.OK, complained
    assert offspring.living() == {}
    assert {path.name for path in tmp_path.iterdir()} == {"it.html", "it.json"}
    report = store.load(tmp_path / "it.json")
    assert [side.name for side in report.sides] == ["1 worker", "2 workers"]
    assert [turn.side for turn in report.turns] == ["1 worker", "2 workers"]
    assert report.spin is not None
    for turn in report.turns:
        assert turn.failed == 0
        assert turn.requests == turn.latency.count > 0
        assert turn.server is not None
        assert turn.server.cpu > 0
        assert turn.server.pss > 1_000_000
        assert len(turn.server.requests_by_worker) == (1 if turn.side == "1 worker" else 2)
        assert turn.cpu_per_request is not None
    assert "Speed-up" in said
    assert "it.html" in said + complained
    code, said, _ = bench(tmp_path, "compare", "it.json", "it.json")
    assert (code, "p99" in said) == (Exit.OK, True)


NOBODY = "http://127.0.0.1:9/"  # discard: not even root's tests serve there
WRONG = {
    "no URL": (("127.0.0.1:8000",), "http://127.0.0.1:8000"),
    "no such time": ((NOBODY, "-d", "0"), "10s"),
    "no such rate": ((NOBODY, "--rate", "fast"), "5000"),
    "no condition": ((NOBODY, "--fail-on", "p99>>3"), "p99<50ms"),
    "no unit": ((NOBODY, "--fail-on", "p99>3"), "ms"),
    "a target that wants it slow": ((NOBODY, "--slo", "p99>50ms"), "p99<50ms"),
    "not ours to kill": ((NOBODY, "--kill-every", "1s"), "--against"),
    "no end": ((NOBODY, "--body-file", "/dev/zero"), "MiB"),
    "no port": (("tell:app", "--against", "serve it"), "{port}"),
    "no report": (("compare", "no.json", "no.json"), "no.json"),
}


@pytest.mark.parametrize("why", WRONG)
def test_what_cannot_be_is_said_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], why: str
) -> None:
    words, remedy = WRONG[why]
    assert main.run(["bench", *words]) == Exit.CONFIG
    said, complained = capsys.readouterr()
    assert said == ""
    assert remedy in complained


def test_nobody_there(tmp_path: Path) -> None:
    """One line, a remedy, 1, and no report of nothing."""
    code, said, complained = bench(tmp_path, NOBODY, "-d", "1s")
    assert (code, said) == (Exit.FAILED, "")
    assert complained.startswith("clusterd: nobody listens on 127.0.0.1:9\n"), complained
    assert list(tmp_path.iterdir()) == []


def test_an_application_that_does_not_start(tmp_path: Path, offspring: Offspring) -> None:
    code, _, complained = bench(tmp_path, "nothing_there:app", "-w", "1", "--no-report")
    assert code == Exit.FAILED
    assert "there is no module nothing_there" in complained
    assert offspring.living() == {}


@pytest.mark.parametrize(
    ("stem", "expired", "trusted", "why"),
    [
        ("stranger", False, False, "--ca-file"),
        ("old", True, True, "expired"),
    ],
)
def test_tls_that_fails(tmp_path: Path, stem: str, expired: bool, trusted: bool, why: str) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue(stem, expired=expired)
    with Scripted(certificate=pair) as server:
        words = (server.url, "--no-report", *(("--ca-file", authority.path) if trusted else ()))
        code, said, complained = bench(tmp_path, *words)
        assert (code, said) == (Exit.FAILED, "")
        assert why in complained
        assert server.told().received == 0


def test_tls_that_is_trusted_and_conditions_for_scripts(tmp_path: Path) -> None:
    """The exit status tells; the conditions that are met are named."""
    authority = Authority(tmp_path)
    acts = (OK,) * 9 + ("503",)
    with Scripted(certificate=authority.issue("leaf"), acts=acts, delays=(0.02,)) as server:
        words = [server.url, "--ca-file", authority.path, "--rounds", "1", "-d", "500ms"]
        words += ["--no-report", "--fail-on", "errors>50%"]
        code, said, complained = bench(tmp_path, *words)
        assert (code, "status 503" in said) == (Exit.OK, True), complained
        code, _, complained = bench(tmp_path, *words, "--fail-on", "p50>10ms")
        assert (code, "p50>10ms" in complained) == (Exit.FAILED, True)
        assert "errors>50%" not in complained


@pytest.mark.timeout(120)
def test_a_server_that_dies_leaves_what_was_measured_until_then(tmp_path: Path) -> None:
    with Scripted(dies_after=300, delays=(0.005,)) as server:
        words = (server.url, "-c", "4", "-d", "3s", "--rounds", "1", "--report", "it")
        code, _, complained = bench(tmp_path, *words)
    assert code == Exit.FAILED
    assert "nobody listened there any more" in complained
    (turn,) = store.load(tmp_path / "it.json").turns
    assert turn.latency.count == turn.requests > 0
    # Whoever asked too much did so while the three others' answers were on their way.
    assert 297 <= sum(moment.requests for moment in turn.moments) <= 300
    assert turn.errors["connect"] > 0
    # Who asks a server that is gone waits longer each time, instead of asking as fast as it can.
    assert turn.errors["connect"] < 1000
    assert (tmp_path / "it.html").exists()


SWIFT = "server {{ listen 127.0.0.1:{port}; keepalive_requests 10000000; return 200 ok; }}"


@needs_nginx
def test_a_rate_beyond_what_can_be_sent_is_doubted(tmp_path: Path) -> None:
    """nginx answers more than one generator can ask. Who lacks a core depends on the machine; that
    the rate was not had is said on any, and nothing of what is missing is left out."""
    with doors(1) as found, nginx(tmp_path / "nginx", SWIFT.format(port=port_of(found[0])), found):
        url = f"http://127.0.0.1:{port_of(found[0])}/"
        words = (url, "--rate", "500k", "-d", "1s", "--rounds", "1", "--generators", "1")
        code, said, _ = bench(tmp_path, *words, "--no-report", "-c", "400")
    assert code == Exit.OK
    blamed = " ".join(said.partition("Throughput")[0].split())
    assert "were answered of 500,000/s that were due" in blamed
    assert "not even sent when it ended" in blamed
    assert "∞" in said


def test_a_full_disk_costs_the_report_and_not_the_table(tmp_path: Path) -> None:
    """No file of ours may grow beyond a block: as far as we can tell, the disk is full."""
    limited = ("sh", "-c", 'ulimit -f 1; exec "$@"', "sh")
    with Scripted(delays=(0.01,)) as server:
        words = (server.url, "-d", "500ms", "--rounds", "1", "--report", "it")
        code, said, complained = bench(tmp_path, *words, wrapper=limited)
    assert code == Exit.FAILED
    assert "Answers a second" in said
    assert "it.json cannot be written" in complained
    assert list(tmp_path.iterdir()) == []  # nor half of one


@pytest.mark.timeout(120)
def test_an_interrupt_gives_the_report_so_far(tmp_path: Path, offspring: Offspring) -> None:
    with Scripted(delays=(0.005,)) as server:
        process = begun(tmp_path, server.url, "-d", "1h", "--report", "it")
        server.until(lambda told: told.answered > 500)
        os.killpg(process.pid, signal.SIGINT)
        said, complained = process.communicate(timeout=LIMIT)
        assert process.returncode == INTERRUPTED, complained
        assert set(offspring.living()) == {server.process.pid}
        report = store.load(tmp_path / "it.json")
        (turn,) = report.turns
        assert (report.interrupted, turn.partial) == (True, True)
        assert sum(moment.requests for moment in turn.moments) >= 400
        assert "Answers a second" in said
        assert (tmp_path / "it.html").exists()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_of_it_is_left(tmp_path: Path, offspring: Offspring, number: int) -> None:
    """Servers and generators go with it, even when it cannot tell them."""
    (tmp_path / "begun.py").write_text(BEGUN)
    os.mkfifo(fifo := tmp_path / "asked")
    asked = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    scratch = Path(tempfile.mkdtemp(prefix="clusterd-"))  # a socket's path is short
    words = ("begun:app", "-w", "2", "-d", "1h", "--no-report")
    process = begun(tmp_path, *words, TMPDIR=str(scratch), BEGUN=str(fifo))
    end_of = os.pidfd_open(process.pid)
    assert select.select([asked, end_of], [], [], LIMIT)[0] == [asked], "it drives"
    os.close(end_of)
    assert len(offspring.living()) > 4
    os.kill(process.pid, number)
    process.communicate(timeout=LIMIT)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    if number == signal.SIGKILL:
        offspring.until_gone()
    assert offspring.living() == {}
    os.close(asked)
    scratch.rmdir()  # which says so if anything is in it


BEGUN = """
import os

begun = []

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if not begun:
        begun.append(scope)
        with open(os.environ["BEGUN"], "w") as fifo:
            fifo.write("x")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})
"""
