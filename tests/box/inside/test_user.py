"""A service of a user's own systemd, which can do less."""

import http.client
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.box.inside.service import APP, CLUSTERD, call, systemctl

pytestmark = pytest.mark.systemd
UNIT = Path(".config/systemd/user/shop.service")


@pytest.fixture
def joe() -> Iterator[Callable[..., str]]:
    """Runs commands as a user whose manager runs too, though nobody logged in."""
    assert call("useradd", "--create-home", "joe").returncode == 0
    home, user = Path("/home/joe"), pwd.getpwnam("joe").pw_uid
    runtime = Path(f"/run/user/{user}")
    runtime.mkdir(parents=True)
    shutil.chown(runtime, "joe", "joe")
    place = f"XDG_RUNTIME_DIR={runtime}"
    manager = ["systemd-run", "--quiet", "--unit=joes", "--service-type=notify", "-p", "User=joe"]
    manager += ["-p", "Delegate=yes", "-E", place, "/usr/lib/systemd/systemd", "--user"]
    assert call(*manager).returncode == 0

    def run(*command: str) -> str:
        as_joe = ("setpriv", "--reuid=joe", "--regid=joe", "--clear-groups")
        done = call(*as_joe, "env", place, f"HOME={home}", *command, cwd=home)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    yield run
    systemctl("stop", "joes")


def test_a_users_own_manager_runs_it(joe: Callable[..., str]) -> None:
    home = Path("/home/joe")
    (home / "shop.py").write_text(APP.format(version="mine"))
    words = ("systemd", "--user", "shop:app", "-b", "127.0.0.1:8003", "-w", "1", "--min-ready", "0")
    joe(*CLUSTERD, *words, "--output-dir", str((home / UNIT).parent))
    drop_in = home / f"{UNIT}.d" / "test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nEnvironment=PYTHONPATH=/src:/site\n")
    joe("systemd-analyze", "--user", "verify", str(home / UNIT))
    joe("systemctl", "--user", "daemon-reload")
    joe("systemctl", "--user", "start", "shop")
    client = http.client.HTTPConnection("127.0.0.1", 8003)
    client.request("GET", "/")
    assert client.getresponse().read().startswith(b"mine ")
    client.close()
    joe("systemctl", "--user", "reload", "shop")
    status = joe("systemctl", "--user", "show", "--value", "-p", "StatusText", "shop")
    assert status.strip() == "1 of 1 workers ready, generation 2"
    assert joe(*CLUSTERD, "status", "--runtime-dir", f"/run/user/{os.stat(home).st_uid}/shop")
    joe("systemctl", "--user", "stop", "shop")
