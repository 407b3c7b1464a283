"""What root relies on must not be another user's to change: asked of real masters with workers that
have given root's rights up."""

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.errors import ClusterdError
from clusterd.core.exits import Exit
from tests.support.rights import opening
from tests.support.server import LIMIT, ROOT, Server, running

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="others have no rights to lose")
NOBODY = pwd.getpwnam("nobody")
WORDS = ("--user", "nobody", "-w", "1", "--min-ready", "0")


@pytest.fixture
def wrapper() -> tuple[str, ...]:
    found = opening()
    if found is None:
        pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that nobody can read, and only root write to."""
    with tempfile.TemporaryDirectory(prefix="clusterd-trust-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@contextlib.contextmanager
def serving(
    place: Path, wrapper: tuple[str, ...], *words: str, app: str = "tell:app", **env: Any
) -> Iterator[Server]:
    with running(place, app, *WORDS, *words, wrapper=wrapper, **env) as server:
        server.ready()
        yield server
        assert server.stop() == 0, server.history()


def checked(place: Path, wrapper: tuple[str, ...], **env: str) -> tuple[int, list[dict[str, str]]]:
    """The exit status of `clusterd check`, and what it says of paths."""
    words = ("check", "--json", "tell:app", "--app-dir", str(ROOT / "tests/apps"), *WORDS)
    done = subprocess.run(
        [*wrapper, sys.executable, "-m", "clusterd.cli.main", *words, "-b", "127.0.0.1:0"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CLUSTERD_RUNTIME_DIR": str(place), **env},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, [one for one in json.loads(done.stdout) if one["check"] == "paths"]


def test_a_file_of_the_workers_user_is_refused_and_allowed_with_a_warning(
    tmp_path: Path, wrapper: tuple[str, ...]
) -> None:
    file = tmp_path / "clusterd.toml"
    file.write_text("keep_alive = 70\n")
    os.chown(file, NOBODY.pw_uid, 0)
    said = f"root reads settings, and its owner may write to {file} (owner nobody, "
    with running(tmp_path, "tell:app", *WORDS, wrapper=wrapper) as server:
        assert server.wait() == Exit.CONFIG
        assert said in server.log()
        assert f"chown root {file}; or start with --insecure-paths" in server.log()
    code, [finding] = checked(tmp_path, wrapper)
    assert (code, finding["level"]) == (Exit.FAILED, "fail")
    assert finding["text"].startswith(said)
    code, [finding] = checked(tmp_path, wrapper, SUDO_UID=str(NOBODY.pw_uid))  # workers are, too
    assert finding["text"].startswith(said)
    os.chown(file, 54321, 0)
    assert checked(tmp_path, wrapper, SUDO_UID="54321") == (0, [])
    os.chown(file, NOBODY.pw_uid, 0)
    code, [finding] = checked(tmp_path, wrapper, CLUSTERD_INSECURE_PATHS="1")
    assert (code, finding["level"]) == (0, "warn")
    with serving(tmp_path, wrapper, "--insecure-paths") as server:
        server.signal(signal.SIGHUP)
        server.event("rollout_finished")
    (warning,) = server.find("insecure_paths")
    assert warning["found"].startswith(f"its owner may write to {file}")
    assert warning["next"] == f"chown root {file}"


def test_a_reload_is_refused_where_the_directory_became_the_workers(
    tmp_path: Path, folder: Path, wrapper: tuple[str, ...]
) -> None:
    file = folder / "clusterd.toml"
    file.write_text("keep_alive = 70\n")
    with serving(tmp_path, wrapper, "--config", str(file)) as server:
        os.chown(folder, NOBODY.pw_uid, 0)
        server.signal(signal.SIGHUP)
        refused = server.event("reload_refused")
        assert f"its owner may write to {folder} (owner nobody, " in refused["reason"]
        assert refused["remedy"].startswith(f"chown root {folder}; ")
        assert json.loads(server.get())["pid"] == server.workers()[0]["pid"]
        os.chown(folder, 0, 0)
        assert server.ask("reload", wait=True)["ok"]


def test_code_that_others_may_change_is_not_run_as_root(
    tmp_path: Path, folder: Path, wrapper: tuple[str, ...]
) -> None:
    """At a start, by `check`, and at an upgrade in place."""
    env: dict[str, Any] = {"PYTHONPATH": f"{ROOT}:{folder}"}
    said = f"root runs Python code, and everybody may write to {folder} (owner root, "
    with serving(tmp_path, wrapper, **env) as server:
        folder.chmod(0o777)
        with pytest.raises(ClusterdError, match="root runs Python code"):
            server.ask("upgrade")
        assert said in server.event("upgrade_failed")["reason"]
        folder.chmod(0o755)
        assert server.ask("upgrade")["ok"]
    folder.chmod(0o1777)  # also where what is there cannot be removed: names can be added
    with running(tmp_path, "tell:app", *WORDS, wrapper=wrapper, **env) as server:
        assert server.wait() == Exit.CONFIG
        assert said in server.log()
    code, [finding] = checked(tmp_path, wrapper, **env)
    assert (code, finding["level"]) == (Exit.FAILED, "fail")
    assert finding["text"].startswith(said)


def test_libraries_are_searched_nowhere_that_others_may_write(
    tmp_path: Path, folder: Path, wrapper: tuple[str, ...]
) -> None:
    folder.chmod(0o777)
    env: dict[str, Any] = {"LD_LIBRARY_PATH": str(folder)}
    with running(tmp_path, "tell:app", *WORDS, wrapper=wrapper, **env) as server:
        assert server.wait() == Exit.CONFIG
        assert f"root runs Python code, and everybody may write to {folder} " in server.log()
        assert f"take {folder} out of LD_LIBRARY_PATH, or chmod o-w {folder}" in server.log()


def test_an_upgrade_to_code_from_where_others_may_write_is_refused_by_itself(
    tmp_path: Path, folder: Path, wrapper: tuple[str, ...]
) -> None:
    """The new interpreter has a search path of its own, which the running one cannot know."""
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    with serving(tmp_path, wrapper, PYTHONPATH=f"{ROOT}:{folder}") as server:
        site = f"import sys; sys.path.append({str(folder / 'open')!r})\n"
        (folder / "sitecustomize.py").write_text(site)
        with pytest.raises(ClusterdError, match="root runs Python code"):
            server.ask("upgrade")
        assert f"may write to {folder}/open " in server.event("upgrade_failed")["reason"]


APP = """
import json, resource
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        return await send({"type": "lifespan.startup.%s"})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(limits).encode()})
"""


def test_a_renewal_after_a_crash_reads_no_settings(
    tmp_path: Path, folder: Path, wrapper: tuple[str, ...]
) -> None:
    """A worker can bring it about: it kills its zygote, and the code on disk is another."""
    code, file = folder / "shop.py", folder / "clusterd.toml"
    code.write_text(APP % "complete")
    file.write_text("limit_nofile = 400\n")
    words = ("--config", str(file), "--app-dir", str(folder))
    with serving(tmp_path, wrapper, *words, app="shop:app") as server:
        code.write_text(APP % "failed" + "# other code\n")
        [zygote] = server.ask("status")["zygotes"]
        os.kill(zygote["pid"], signal.SIGKILL)
        server.event("rollout_failed")
        code.write_text(APP % "complete" + "# other code again\n")
        file.write_text("limit_nofile = 300\n")
        os.kill(server.workers()[0]["pid"], signal.SIGKILL)
        started = server.event("rollout_started")
        assert started["reason"] == "the code of the serving generation is no longer on disk"
        server.event("rollout_finished")
        assert json.loads(server.get()) == [400, 400]
        assert server.ask("reload", wait=True)["ok"]
        assert json.loads(server.get()) == [300, 300]


@pytest.mark.parametrize("option", ["--log-file", "--pid-file"])
def test_a_log_below_a_directory_of_the_workers_user_and_a_pid_file_in_it_are_refused(
    option: str, tmp_path: Path, folder: Path, wrapper: tuple[str, ...]
) -> None:
    """A directory in it could be exchanged for a link."""
    below = folder / "below" if option == "--log-file" else folder
    below.mkdir(exist_ok=True)
    os.chown(folder, NOBODY.pw_uid, 0)
    words = (option, str(below / "file"))
    file = {"--log-file": "the log", "--pid-file": "the pid file"}[option]
    said = f"root writes {file}, and its owner may write to {folder} "
    with running(tmp_path, "tell:app", *WORDS, *words, wrapper=wrapper) as server:
        assert server.wait() == Exit.CONFIG
        assert said in server.log()
        assert f"chown root {folder}; or start with --insecure-paths" in server.log()
    assert not (below / "file").exists()
    variable = f"CLUSTERD_{option[2:].replace('-', '_').upper()}"
    code, [finding] = checked(tmp_path, wrapper, **{variable: words[1]})
    assert (code, finding["level"]) == (Exit.FAILED, "fail")
    assert finding["text"].startswith(said)
    with serving(tmp_path, wrapper, *words, "--insecure-paths") as server:
        pass
    (warning,) = server.find("insecure_paths")
    assert warning["next"] == f"chown root {folder}"


def test_a_log_lies_in_a_sticky_directory_and_is_reopened_nowhere_else(
    tmp_path: Path, folder: Path, wrapper: tuple[str, ...]
) -> None:
    """As in /tmp, where others can only remove what is theirs."""
    log = folder / "log"
    folder.chmod(0o1777)
    with serving(tmp_path, wrapper, "--log-file", str(log)) as server:
        server.ask("reopen")
        folder.chmod(0o777)
        with pytest.raises(ClusterdError, match=f"everybody may write to {folder}"):
            server.ask("reopen")
        server.event("trouble", next="the old file is written to")
        assert server.get()


def test_a_log_lies_in_a_directory_of_the_workers_user_and_is_rotated_there(
    tmp_path: Path, folder: Path, wrapper: tuple[str, ...]
) -> None:
    """As /var/log/shop does, with `create 640 shop adm` for logrotate."""
    os.chown(folder, NOBODY.pw_uid, 0)
    log, words = folder / "log", ("--log-file", str(folder / "log"))
    assert checked(tmp_path, wrapper, CLUSTERD_LOG_FILE=str(log)) == (0, [])
    with serving(tmp_path, wrapper, *words) as server:
        log.rename(folder / "log.1")
        log.touch(0o640)
        os.chown(log, NOBODY.pw_uid, 0)
        server.ask("reopen")
        assert '"reopened"' in log.read_text()
        log.rename(folder / "log.2")
        log.symlink_to(folder / "elsewhere")
        with pytest.raises(ClusterdError, match="it is a symbolic link"):
            server.ask("reopen")
        log.unlink()
        os.chown(folder, 54321, 0)  # neither root's nor the workers'
        with pytest.raises(ClusterdError, match=f"its owner may write to {folder}"):
            server.ask("reopen")
        os.chown(folder, 0, 0)
    assert not (folder / "elsewhere").exists()


def test_the_record_of_a_run_is_kept_nowhere_that_the_workers_user_may_lead_it_to(
    tmp_path: Path, folder: Path, wrapper: tuple[str, ...]
) -> None:
    """HOME, say, is the workers' user's, and a link there leads to a directory of root's."""
    state, victim = folder / "state", folder / "victim"
    state.mkdir()
    victim.mkdir()
    (state / "clusterd").symlink_to(victim)
    os.chown(state, NOBODY.pw_uid, 0)
    env = {"XDG_STATE_HOME": str(state)}
    with serving(tmp_path, wrapper, **env) as server:
        pass
    assert list(victim.iterdir()) == []
    said = f"no record of this run will be kept for 'clusterd why': its owner may write to {state} "
    assert server.log().count(said) == 1
    with serving(tmp_path, wrapper, "--insecure-paths", **env) as server:
        pass
    assert "no record" not in server.log()
    assert len(list(victim.iterdir())) == 1
