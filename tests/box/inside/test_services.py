"""Services under a real systemd: start, reload, watchdog, socket activation, restarts, stop."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box.inside.service import CLUSTERD, UNITS, Service, answer, call, systemctl, systemd

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(90)]
# Where our packages are; and times that a test can wait for.
QUICK = (
    "Environment=PYTHONPATH=/src:/site",
    "RestartSec=1s",
    "RestartSteps=0",
    "RestartMaxDelaySec=infinity",
    "TimeoutAbortSec=1",
)


@pytest.fixture(scope="module")
def shop() -> Iterator[Service]:
    """A service that was started, and is stopped at the end: then nothing of it is left."""
    files = ("-b", "unix:/run/shop/web.sock")
    service = Service("shop", 8000, *files, "-w", "2", "--min-ready", "0")
    service.change(*QUICK)
    systemctl("start", "shop")
    yield service
    systemctl("stop", "shop")
    assert service.show("Result") == "success"
    assert not Path("/run/shop").exists()
    with pytest.raises(ConnectionRefusedError):
        service.ask()


def test_systemd_has_no_fault_to_find_and_little_to_warn_of(shop: Service) -> None:
    """An exposure of at most 1.5 of 10, at which systemd-analyze security(1) says OK."""
    done = call("systemd-analyze", "verify", str(UNITS / "shop.service"))
    assert (done.returncode, done.stderr) == (0, "")
    judged = call("systemd-analyze", "security", "--threshold=15", "--no-pager", "shop.service")
    assert judged.returncode == 0, judged.stdout
    print(judged.stdout.splitlines()[-1])


def test_it_is_started_when_it_is_ready(shop: Service) -> None:
    assert shop.show("ActiveState") == "active"
    assert shop.show("StatusText").startswith("2 of 2 workers ready, generation ")
    version, parent, *_ = shop.get().split()
    assert (version, int(parent)) == ("one", shop.pid)
    status = Path(f"/proc/{shop.pid}/status").read_text()
    (user,) = [line.split()[1] for line in status.splitlines() if line.startswith("Uid:")]
    assert int(user) >= 61184, "a dynamic user, systemd.exec(5)"
    for speaks_of_the_master in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "FDSTORE"):
        assert speaks_of_the_master not in shop.get()
    asked = call(*CLUSTERD, "status", "--runtime-dir", "/run/shop")
    assert asked.returncode == 0, asked.stderr


def test_a_reload_returns_when_the_new_code_serves(shop: Service) -> None:
    shop.write("two")
    systemctl("reload", "shop")
    assert {shop.version() for _ in range(10)} == {"two"}
    assert shop.show("StatusText") == "2 of 2 workers ready, generation 2"


def test_a_reload_of_broken_code_returns_and_the_old_serves_on(shop: Service) -> None:
    before = shop.version()
    shop.write("", broken=True)
    systemctl("reload", "shop")
    assert {shop.version() for _ in range(10)} == {before}
    assert shop.show("ActiveState") == "active"
    assert "did not come up: import failed" in shop.show("StatusText")
    assert "nothing_of_this_name" in shop.show("StatusText")
    shop.write("three")
    systemctl("reload", "shop")
    assert shop.version() == "three"
    assert "did not" not in shop.show("StatusText")


def test_a_killed_master_is_started_again_and_answers_who_waited(shop: Service) -> None:
    before, file = shop.pid, os.stat("/run/shop/web.sock").st_ino
    shop.kill(signal.SIGKILL)
    shop.until_down()
    clients = [shop.ask() for _ in range(20)]
    local = socket.socket(socket.AF_UNIX)
    local.connect("/run/shop/web.sock")
    local.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    for client in [*clients, local]:
        assert "200 OK" in answer(client)
    assert shop.pid not in (0, before)
    assert os.stat("/run/shop/web.sock").st_ino == file
    shop.until(lambda: shop.show("ActiveState") == "active")
    assert shop.show("NFileDescriptorStore") == "2"


def test_a_stopped_master_is_found_by_the_watchdog(shop: Service) -> None:
    shop.change(*QUICK, "WatchdogSec=2")
    systemctl("restart", "shop")
    before, restarts = shop.pid, shop.show("NRestarts")
    shop.kill(signal.SIGSTOP)
    shop.until_down()
    assert shop.show("Result") == "watchdog"
    client = shop.ask()
    assert "200 OK" in answer(client)
    assert shop.pid not in (0, before)
    assert int(shop.show("NRestarts")) == int(restarts) + 1


def test_after_an_upgrade_in_place_systemd_hears_the_same_master(shop: Service) -> None:
    before, signs = shop.pid, int(shop.show("WatchdogTimestampMonotonic"))
    done = call(*CLUSTERD, "upgrade", "--runtime-dir", "/run/shop")
    assert done.returncode == 0, done.stderr
    shop.until(lambda: int(shop.show("WatchdogTimestampMonotonic")) > signs)
    shop.write("four")
    systemctl("reload", "shop")
    assert (shop.version(), shop.pid) == ("four", before)
    assert shop.show("NFileDescriptorStore") == "2"


def test_a_restart_refuses_nobody(shop: Service) -> None:
    before, answers = shop.pid, 0
    restart = subprocess.Popen(["systemctl", "restart", "shop"])
    while restart.poll() is None:
        assert "200 OK" in answer(shop.ask())
        answers += 1
    assert restart.wait() == 0
    assert answers
    assert shop.pid != before


def test_a_wrong_setting_is_not_tried_again() -> None:
    service = Service("wrong", 8002)
    service.change(*QUICK)
    (service.home / "clusterd.toml").write_text("workers = 0\n")
    assert call("systemctl", "start", "wrong").returncode != 0
    assert service.show("ActiveState") == "failed"
    assert service.show("ExecMainStatus") == "4"


@pytest.fixture
def lazy() -> Iterator[Service]:
    """A service whose socket unit was started, and nothing else."""
    service = Service("lazy", 8001, "--socket", "-w", "1", "--min-ready", "0")
    service.change(*QUICK)
    systemctl("start", "lazy.socket")
    yield service
    systemctl("stop", "lazy.socket", "lazy")


def test_a_request_from_before_the_start_is_answered(lazy: Service) -> None:
    units = (str(UNITS / f"lazy.{kind}") for kind in ("service", "socket"))
    done = call("systemd-analyze", "verify", *units)
    assert (done.returncode, done.stderr) == (0, "")
    assert lazy.show("ActiveState") == "inactive"
    assert "200 OK" in answer(lazy.ask())
    before = lazy.pid
    lazy.kill(signal.SIGKILL)
    lazy.until_down()
    assert "200 OK" in answer(lazy.ask())
    assert lazy.pid not in (0, before)
    systemctl("stop", "lazy")  # the socket listens on, and starts it again
    assert "200 OK" in answer(lazy.ask())


@pytest.fixture
def low() -> Iterator[Service]:
    """A service whose port is below 1024; nothing else is said of it."""
    service = Service("low", 80, "-w", "1", "--min-ready", "0")
    service.change(*QUICK)
    systemctl("start", "low.socket")
    yield service
    systemctl("stop", "low.socket", "low")


def test_a_low_port_is_served_without_any_right(low: Service) -> None:
    _, parent, *_ = low.get().split()
    assert int(parent) == low.pid
    text = Path(f"/proc/{low.pid}/status").read_text()
    status = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    for name in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert int(status[f"Cap{name}"], 16) == 0, name
    assert int(status["NoNewPrivs"]) == 1
    limits = Path(f"/proc/{low.pid}/limits").read_text().splitlines()
    assert [line.split()[4:6] for line in limits if "core file size" in line] == [["0", "0"]]


@pytest.fixture
def often() -> Iterator[Service]:
    """A service that is started again as its unit says: RestartSec= grows by RestartSteps=."""
    service = Service("often", 8005, "-w", "1", "--min-ready", "0")
    service.change(QUICK[0])
    systemctl("start", "often")
    yield service
    systemctl("stop", "often")


def test_a_restart_is_as_quick_as_the_first_once_the_service_was_healthy(often: Service) -> None:
    """RESTART_RESET=1; otherwise each restart is later than the one before, for ever."""
    if systemd() < 258:
        pytest.skip("systemd counts restarts for ever before 258")
    first = often.show("RestartUSecNext")
    for number in range(3):
        often.crash()
        assert int(often.show("NRestarts")) == number + 1
    assert often.show("RestartUSecNext") != first
    often.until(lambda: often.show("NRestarts") == "0")  # half a minute of serving
    assert often.show("RestartUSecNext") == first
    often.crash()
    assert often.show("NRestarts") == "1"
