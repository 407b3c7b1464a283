"""No option and no variable: a cluster runs, and commands find it from a second terminal."""

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.core.exits import Exit
from tests.support.rights import opening
from tests.support.server import LIMIT, ROOT, Server, running

CLUSTERD = [sys.executable, "-m", "clusterd.cli.main"]
NONE = {"XDG_RUNTIME_DIR": "", "RUNTIME_DIRECTORY": ""}  # as in a container, cron, or after su
HERE = ("--runtime-dir", "")  # as if the option were not there
DEMO = ("-w", "1", "--min-ready", "0")
Done = subprocess.CompletedProcess[str]

superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# A /run of its own, see mount_namespaces(7): that of this machine has other clusters in it.
OWN_RUN = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh")


@pytest.fixture
def own_run() -> tuple[str, ...]:
    if (
        shutil.which("unshare") is None
        or subprocess.run([*OWN_RUN, "true"], check=False).returncode
    ):
        pytest.skip("there may be no other /run here")
    return OWN_RUN


@contextlib.contextmanager
def at_once(place: Path, *options: str, wrapper: tuple[str, ...], **env: str) -> Iterator[Server]:
    """A cluster without a runtime directory of the tests' choice."""
    options = (*DEMO, *HERE, *options)
    env = {**NONE, **env}
    with running(
        place, "clusterd.demo:app", *options, cwd="/", wrapper=wrapper, keep=(), **env
    ) as server:
        assert server.started, server.log()
        yield server


def typed(server: Server, *args: str, wrapper: tuple[str, ...] = (), **env: str) -> Done:
    """A command from a second terminal beside the cluster, to its end."""
    beside = ("nsenter", "--mount", "--target", str(server.pid), f"--wd={server.place}")
    return subprocess.run(
        [*(beside if wrapper else ()), *wrapper, *CLUSTERD, *args],
        cwd=server.place,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@superuser
def test_root_with_an_empty_environment_can_do_everything(
    tmp_path: Path, own_run: tuple[str, ...]
) -> None:
    def asked(*args: str) -> Done:
        return typed(first, *args, wrapper=("env",))

    with at_once(tmp_path, "--log-format", "text", wrapper=own_run) as first:
        beside = ("nsenter", "--mount", "--target", str(first.pid), f"--wd={tmp_path}")
        assert "clusterd.demo:app is " in asked("status").stdout
        while "ready on http://127.0.0.1:" not in first.log():
            pass  # the application is being imported
        again = asked("run", "clusterd.demo:app", "-b", "127.0.0.1:0")
        assert again.returncode == Exit.BIND
        said = again.stderr.splitlines()
        assert f"the cluster 'clusterd' (clusterd.demo:app, pid {first.pid})" in said[0]
        assert "--name" in said[1]

        with at_once(tmp_path, "--name", "blue", wrapper=beside) as second:
            unclear = asked("stop")
            assert unclear.returncode == Exit.FAILED
            assert [line.split(":")[0] for line in unclear.stderr.splitlines()[1:]] == [
                "  --name blue",
                "  --name clusterd",
            ]
            assert asked("status").returncode == Exit.FAILED
            assert "blue: " in asked("status", "--name", "blue").stdout
            assert asked("stop", "--name", "blue").stdout == "stopped\n"
            assert second.wait() == Exit.OK
        assert asked("reload", "--wait").stdout == "generation 2 serves\n"
        assert asked("stop").stdout == "stopped\n"
        assert first.wait() == Exit.OK


@contextlib.contextmanager
def nobody_s(place: Path) -> Iterator[tuple[Server, tuple[str, ...], str]]:
    """A cluster of an ordinary user, how to be that user, and the temporary directory."""
    become: tuple[str, ...] = ()
    if os.geteuid() == 0:
        opened = opening()
        if opened is None:
            pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
        nobody = pwd.getpwnam("nobody")
        setpriv = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}")
        become = (*opened, *setpriv, "--clear-groups")
    with tempfile.TemporaryDirectory(prefix="clusterd-place-") as folder:
        os.chmod(folder, 0o1777)
        with at_once(place, "--app-dir", "/", wrapper=become, TMPDIR=folder) as server:
            yield server, become, folder


def test_an_ordinary_user_without_a_session_has_a_directory_of_its_own(tmp_path: Path) -> None:
    with nobody_s(tmp_path) as (server, become, folder):
        (directory,) = Path(folder).glob("clusterd-*")
        about = directory.stat()
        assert directory.name == f"clusterd-{about.st_uid}"
        assert stat.S_IMODE(about.st_mode) == 0o700
        assert about.st_uid == os.stat(f"/proc/{server.pid}").st_uid
        done = subprocess.run(
            [*become, *CLUSTERD, "stop"],
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
        assert server.wait() == Exit.OK
        assert list(directory.iterdir()) == []


@superuser
def test_a_directory_that_may_not_be_entered_is_named(tmp_path: Path) -> None:
    """As of whoever used su in a directory of root's."""
    tmp_path.chmod(0o700)
    with nobody_s(tmp_path) as (_, become, _):
        done = subprocess.run(
            [*become, *CLUSTERD, "config"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PWD": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == Exit.CONFIG
        assert done.stderr.startswith(f"clusterd: {tmp_path} may not be entered, so it is not ")


@superuser
def test_a_cluster_of_another_user_is_told(tmp_path: Path) -> None:
    """To root with its runtime directory, which is all that root needs."""
    with nobody_s(tmp_path) as (server, _, folder):
        done = typed(server, "status", CLUSTERD_RUNTIME_DIR=str(tmp_path))
        assert done.returncode == Exit.FAILED
        mine = f"There is the cluster 'clusterd' (clusterd.demo:app, pid {server.pid}): "
        (line,) = [line for line in done.stderr.splitlines() if line.startswith(mine)]
        (directory,) = Path(folder).glob("clusterd-*")
        assert line == f"{mine}say --runtime-dir {directory}."
        assert typed(server, "status", "--runtime-dir", str(directory)).returncode == 0
        server.process.terminate()
        assert server.wait() == Exit.OK


def test_where_no_directory_can_be_made_it_serves_and_warns(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can make /run/clusterd")
    with at_once(tmp_path, wrapper=(), TMPDIR="/proc") as server:
        server.process.terminate()
        assert server.wait() == Exit.OK
        assert "no command will find this cluster: there is no runtime directory" in server.log()


def test_a_directory_in_the_way_costs_only_commands(
    tmp_path: Path, own_run: tuple[str, ...]
) -> None:
    """In /run and in /tmp there are files where a directory is to be."""
    block = ('touch /run/clusterd; mkdir /run/tmp; touch /run/tmp/clusterd-0; exec "$@"', "sh")
    with at_once(tmp_path, wrapper=(*own_run, "sh", "-c", *block), TMPDIR="/run/tmp") as server:
        server.process.terminate()
        assert server.wait() == Exit.OK
        assert "/run/clusterd: it is not a directory; /run/tmp/clusterd-0: it is" in server.log()
