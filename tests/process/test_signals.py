"""Every signal of the table, sent for real."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.gate import gate
from tests.support.server import serving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_each_of_the_stopping_signals_ends_with_status_0(number: int, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.signal(number)
        assert server.wait() == 0
        assert server.family() == set()


def test_a_second_interrupt_does_not_wait_for_requests(tmp_path: Path) -> None:
    with gate() as door, serving(tmp_path, GATE=str(door.path)) as server:
        client = server.connect()
        client.request("GET", "/held")
        visitor = door.next()
        server.signal(signal.SIGINT)
        server.event("retired", pid=visitor.pid)
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        visitor.release()
        with pytest.raises(ConnectionError):
            client.getresponse()
        client.close()


def test_quit_says_where_busy_workers_are(tmp_path: Path) -> None:
    with gate() as door, serving(tmp_path, workers=1, GATE=str(door.path)) as server:
        client = server.connect()
        client.request("GET", "/held")
        visitor = door.next()
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0
        (dumped,) = [e for e in server.seen if e["kind"] == "dumped"]
        assert dumped["pid"] == visitor.pid
        assert "in knock" in dumped["traceback"]
        visitor.release()
        client.close()


def test_stop_quick_is_the_twin_of_quit(tmp_path: Path) -> None:
    with gate() as door, serving(tmp_path, workers=1, GATE=str(door.path)) as server:
        client = server.connect()
        client.request("GET", "/held")
        visitor = door.next()
        assert server.ask("stop", quick=True)["ok"]
        assert server.wait() == 0
        assert server.find("dumped", pid=visitor.pid)
        visitor.release()
        client.close()


def test_hup_ttin_and_ttou(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.signal(signal.SIGHUP)
        server.event("rollout_finished", generation=2)
        server.signal(signal.SIGTTIN)
        server.event("scaled", size=3)
        server.event("readied", slot=2)
        server.signal(signal.SIGTTOU)
        server.event("scaled", size=2)
        server.event("exited", slot=2)


def test_winch_pauses_with_the_queue_open_and_hup_resumes(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.signal(signal.SIGWINCH)
        server.event("paused")
        for _ in range(2):
            server.event("exited")
        waiting = server.connect()
        waiting.request("GET", "/")
        assert server.ask("status")["state"] == "paused"
        server.signal(signal.SIGHUP)
        assert waiting.getresponse().status == 200
        waiting.close()
        server.event("rollout_finished", generation=2)


def test_term_in_a_pause_answers_those_who_wait(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.signal(signal.SIGWINCH)
        for _ in range(2):
            server.event("exited")
        waiting = [server.connect() for _ in range(5)]
        for client in waiting:
            client.request("GET", "/")
        server.signal(signal.SIGTERM)
        for client in waiting:
            assert client.getresponse().status == 200
            client.close()
        assert server.wait() == 0


def test_usr1_reopens_the_log_here_and_in_workers(tmp_path: Path) -> None:
    log, rotated = tmp_path / "log", tmp_path / "log.1"
    with serving(tmp_path, "tell:app", "--log-file", str(log), workers=1) as server:
        log.rename(rotated)
        server.signal(signal.SIGUSR1)
        server.event("reopened")
        with pytest.raises(AssertionError):
            server.get("/fail")
        assert "the app's own fault" in log.read_text()
        assert '"ready"' in rotated.read_text()
        worker = server.workers()[0]
        os.kill(worker["pid"], signal.SIGKILL)
        server.event("readied")
        with pytest.raises(AssertionError):
            server.get("/fail")
        assert log.read_text().count("the app's own fault") >= 2


def test_what_a_terminal_sends_to_the_group_leaves_workers_and_zygote_alone(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as server:
        for pid in server.family() - {server.pid}:
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1):
                os.kill(pid, number)
        assert server.get()
        server.ask("reload", wait=True)
        assert not [e for e in server.rest_so_far() if e["kind"] == "exited" and not e["asked"]]


def test_dump_shows_where_a_worker_is_even_inside_c(tmp_path: Path) -> None:
    with gate() as door, serving(tmp_path, workers=1, GATE=str(door.path)) as server:
        client = server.connect()
        client.request("GET", "/busy-in-c")
        door.next().sock.close()
        (dump,) = server.ask("dump")["dumps"]
        assert "in busy_in_c" in dump["text"]
        client.close()
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0


def test_a_storm_of_every_signal_ends_in_one_generation(tmp_path: Path) -> None:
    storm = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD)
    with serving(tmp_path) as server:
        for _ in range(200):
            for number in storm:
                server.signal(number)
        server.event("rollout_finished")
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGHUP)
        assert server.wait() == 0
        assert server.family() == set()
