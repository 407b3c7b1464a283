"""The paths by which root runs code: what is judged at a start and before an upgrade."""

import importlib
import os
import pwd
import site
import stat
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clusterd.config.resolve import load_groups
from clusterd.core.events import Kind
from clusterd.core.write_access import Entry, Fault, Trust, Writer
from clusterd.kernel import paths
from clusterd.kernel.paths import Looker
from clusterd.master import run, trusted_paths
from clusterd.master.trusted_paths import (
    CODE,
    NO_USER_SITE,
    SETTINGS,
    code,
    commands,
    described,
    faults_of_settings,
)
from tests.support.simulated import simulated

WORKER = 54321


def test_all_that_is_run_by_its_path_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some.pth").touch()
    (tmp_path / "judged_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    script = ModuleType("__main__")  # as the console script is: it has no spec
    script.__file__ = str(tmp_path / "bin" / "clusterd")
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("judged_module")
    found = set(code())
    assert module.__spec__ is not None
    assert {module.__spec__.origin, module.__spec__.cached, str(tmp_path / "some.pth")} <= found
    assert {sys.executable, str(tmp_path), f"{sys.prefix}/pyvenv.cfg"} <= found
    assert script.__file__ in found


def test_the_current_directory_counts_where_modules_are_searched_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `python -m` has it. A module of any name that the master imports could be put there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, "", "lib"])
    assert {f"{tmp_path}/", f"{tmp_path}/lib"} <= set(code())


def test_packages_below_home_count_before_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the owner of HOME could add some, and an upgrade or a restart would run them as root."""
    packages = tmp_path / "home" / ".local" / "lib" / "site-packages"
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(packages))
    monkeypatch.setattr(site, "ENABLE_USER_SITE", False)  # as in a virtual environment, or by -s
    assert str(packages) not in code()
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    assert str(packages) in code()
    others = Trust(frozenset({os.getuid() + 1}), frozenset())
    found = [one for one in Looker(others).faults([str(packages)]) if "home" in one.entry.path]
    assert NO_USER_SITE in described(CODE, found)[1]
    (tmp_path / "lib").mkdir()
    found = [
        one for one in Looker(others).faults([f"{tmp_path}/lib"]) if one.entry.path[-3:] == "lib"
    ]
    assert NO_USER_SITE not in described(CODE, found)[1]


@pytest.fixture
def looker(monkeypatch: pytest.MonkeyPatch) -> Looker:
    """One that trusts nothing of ours, as where the directory is the workers' user's."""
    found = Looker(Trust(frozenset(), frozenset({WORKER})))
    monkeypatch.setattr(trusted_paths, "_looker", lambda *_: found)
    return found


@pytest.mark.usefixtures("looker")
@pytest.mark.parametrize(
    ("text", "is_judged"),
    [
        ("[project]\nname = 'shop'\n", False),
        ("[tool.clusterd]\nkeep_alive = 70\n", True),
        ("[tool.clusterd.group.jobs]\ncommand = 'jobs'\n", True),
    ],
)
def test_a_pyproject_is_judged_once_settings_come_from_it(
    text: str, is_judged: bool, tmp_path: Path
) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(text)
    groups = load_groups({"app": "shop:app"}, {}, tmp_path)
    found = faults_of_settings(groups, {}, {}, tmp_path)
    assert [one.needed for one in found if one.entry.path == str(tmp_path)] == (
        [str(file)] if is_judged else []
    )


@pytest.mark.usefixtures("looker")
def test_a_file_of_settings_is_judged_though_it_was_removed_when_it_had_been_read(
    tmp_path: Path,
) -> None:
    file, project = tmp_path / "clusterd.toml", tmp_path / "pyproject.toml"
    file.write_text("keep_alive = 70\n")
    project.write_text("[project]\n")
    groups = load_groups({"app": "shop:app"}, {}, tmp_path)
    file.unlink()
    for _ in range(2):
        found = faults_of_settings(groups, {}, {}, tmp_path)
        assert str(tmp_path) in [one.entry.path for one in found]
        project.unlink(missing_ok=True)


@pytest.mark.usefixtures("looker")
@pytest.mark.parametrize("name", ["clusterd.toml", "pyproject.toml", "other.toml"])
def test_a_file_that_is_named_is_judged_and_no_other(name: str, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    file, home = tmp_path / name, tmp_path / "shop"
    file.write_text("")
    given, groups = {"config": str(file)}, load_groups({"app": "shop:app"}, {}, home)
    found = [one.entry.path for one in faults_of_settings(groups, given, {}, home)]
    assert str(file) in found
    assert str(home) not in found


def fault(path: str, needed: str = "", group: str = "", gid: int = 4, uid: int = 0) -> Fault:
    seen = Entry(path, uid, gid, stat.S_IFDIR | 0o775, is_passed=True)
    return Fault(seen, Writer.GROUP if group else Writer.OWNER, "app", group, needed)


def test_ubuntus_var_log_is_as_the_system_needs_it(looker: Looker) -> None:
    is_given = trusted_paths._is_of_syslog
    assert is_given(fault("/var/log", group="syslog"), looker)
    assert not is_given(fault("/var/log", group="adm"), looker)
    assert not is_given(fault("/var/log/app", group="syslog"), looker)
    assert not is_given(fault("/var/log", group="syslog", gid=WORKER), looker)


def test_a_home_directory_is_not_to_be_given_to_root() -> None:
    user = pwd.getpwnam("nobody")
    home, uid = user.pw_dir, user.pw_uid
    assert commands(SETTINGS, [fault(f"{home}/shop", uid=uid), fault(home, uid=uid)]) == (
        "put them where only root may write, e.g. --config /etc/clusterd.toml"
    )
    assert commands(SETTINGS, [fault(home, uid=uid + 1)]) == f"chown root {home}"
    assert commands(SETTINGS, [fault("/srv/shop")]) == "chown root /srv/shop"


def test_a_directory_of_pythonpath_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"/app{os.pathsep}")
    assert commands(CODE, [fault("/app", "/app")]) == (
        "take /app out of PYTHONPATH (--app-dir names the app's directory), or chown root /app"
    )
    assert commands(CODE, [fault("/app", "/app/.venv")]) == "chown root /app"
    monkeypatch.setattr(trusted_paths, "__file__", "/app/clusterd/master/trusted_paths.py")
    assert commands(CODE, [fault("/app", "/app")]) == "chown root /app"  # we are there ourselves


def test_the_current_directory_is_named_where_python_searches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = fault(str(tmp_path), f"{tmp_path}/")
    assert commands(CODE, [here]) == (
        f"start it as 'clusterd' ('python -m' searches {tmp_path} for modules), "
        f"or chown root {tmp_path}"
    )
    assert commands(SETTINGS, [here]) == f"chown root {tmp_path}"


@pytest.mark.parametrize(
    ("prefix", "file", "tree"),
    [
        ("/app/.venv", "/src/clusterd/master/trusted_paths.py", "/app/.venv"),
        (
            "/usr",
            "/usr/local/lib/dist-packages/clusterd/master/x.py",
            "/usr/local/lib/dist-packages",
        ),
        ("/usr", "/home/dev/src/clusterd/master/x.py", ""),
    ],
)
def test_one_command_gives_root_a_virtual_environment_or_the_packages(
    prefix: str, file: str, tree: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(trusted_paths, "__file__", file)
    assert trusted_paths._tree() == tree


def test_the_record_of_a_run_is_judged_on_the_way_to_its_directory(
    looker: Looker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = load_groups({"app": "shop:app"}, {}, tmp_path)
    state = {"XDG_STATE_HOME": str(tmp_path)}
    said = trusted_paths.fault_of_record(groups, state)
    assert said.endswith(f"on the way to {tmp_path}/clusterd")
    assert trusted_paths.fault_of_record(groups, {}) == "", "nothing is kept without HOME"
    trusting = load_groups({"app": "shop:app", "insecure_paths": True}, {}, tmp_path)
    assert trusted_paths.fault_of_record(trusting, state) == ""
    monkeypatch.setattr(trusted_paths, "_looker", lambda *_: None)
    assert trusted_paths.fault_of_record(groups, state) == "", "workers have our rights"


def test_a_record_is_neither_written_nor_removed_where_it_could_be_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(run, "directory_of", lambda *_: "/run/a")
    reason = ["its owner may write to /x"]
    monkeypatch.setattr(trusted_paths, "fault_of_record", lambda *_: reason[0])
    with simulated(1) as sim:
        run.keep_for_why(sim.cluster)
        assert list(tmp_path.iterdir()) == []
        reason[0] = ""
        run.keep_for_why(sim.cluster)
        (record,) = (tmp_path / "clusterd").iterdir()
        reason[0] = "its owner may write to /x"
        run.forget_for_why(sim.cluster)
        assert record.exists()
        (said,) = sim.find(Kind.TROUBLE)
        assert said.fields["reason"].endswith(reason[0])
        reason[0] = ""
        run.forget_for_why(sim.cluster)
        assert not record.exists()


def test_the_current_directory_is_named_where_libraries_are_searched_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib:")
    said = commands(CODE, [fault(os.getcwd(), os.getcwd())])
    assert said.startswith(f"take {os.getcwd()} out of LD_LIBRARY_PATH (an empty entry), or ")
    said = commands(CODE, [fault("/opt/lib", "/opt/lib")])
    assert said.startswith("take /opt/lib out of LD_LIBRARY_PATH, or ")


@pytest.mark.usefixtures("looker")
def test_libraries_are_code_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tmp_path / "lib" / "libshop.so"
    loaded.parent.mkdir()
    loaded.touch()
    groups = load_groups({"app": "shop:app"}, {}, tmp_path)
    searched = {"LD_LIBRARY_PATH": str(tmp_path)}
    found = trusted_paths.faults_of_code(groups, searched)
    assert str(tmp_path) in {one.entry.path for one in found}
    assert str(tmp_path) not in {one.entry.path for one in trusted_paths.faults_of_code(groups, {})}
    found = trusted_paths.faults_of_code(groups, {"LD_AUDIT": str(loaded)})
    assert str(loaded) in {one.entry.path for one in found}
    monkeypatch.setattr(paths, "libraries", lambda: [str(loaded)])
    assert str(loaded) in {one.entry.path for one in trusted_paths.faults_of_code(groups, {})}
