"""`clusterd systemd`: what the units say, and that the options of `run` arrive in them."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clusterd.cli.commands import clusterd
from clusterd.cli.systemd import installed
from clusterd.cli.unit import NEWEST, WALLS, quoted, shown
from clusterd.core.errors import ConfigError

Call = Callable[..., str]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The output of `clusterd systemd …`, called in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))

    def output(*args: str) -> str:
        version = [] if "--systemd-version" in args else ["--systemd-version", "257"]
        result: Result = CliRunner().invoke(clusterd, ["systemd", *args, *version])
        if result.exception is not None:
            raise result.exception
        return result.output

    return output


def keys(text: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


def command(text: str) -> list[str]:
    (line,) = keys(text, "ExecStart")
    return shlex.split(line)


def test_options_of_run_go_into_the_command_line(call: Call) -> None:
    text = call("shop.main:app", "-b", "127.0.0.1:8000", "-b", "unix:/run/shop/s", "--no-factory")
    words = command(text)
    assert words[words.index("run") :] == [
        *("run", "shop.main:app", "--no-factory"),
        *("--bind", "127.0.0.1:8000", "--bind", "unix:/run/shop/s"),
    ]
    assert Path(words[0]).is_absolute()
    assert keys(text, "Type") == ["notify-reload"]
    assert keys(text, "RuntimeDirectory") == ["shop"]
    assert keys(text, "ReadWritePaths") == []  # its own runtime directory it may write to


@pytest.mark.parametrize("bind", ["127.0.0.1:80", "unix:/run/shop/s"])
def test_no_service_has_rights_or_core_dumps(call: Call, tmp_path: Path, bind: str) -> None:
    """A low port is bound by systemd."""
    call("shop:app", "-b", bind, "--output-dir", str(tmp_path))
    text = (tmp_path / "shop.service").read_text()
    for name in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert keys(text, name) == [""]
    assert keys(text, "PrivateUsers") == ["yes"]
    assert keys(text, "LimitCORE") == ["0"]
    is_low = bind.endswith(":80")
    assert keys(text, "Requires") == ["shop.socket"] * is_low
    assert (tmp_path / "shop.socket").exists() == is_low
    if is_low:
        assert keys((tmp_path / "shop.socket").read_text(), "ListenStream") == ["127.0.0.1:80"]


def test_a_service_sees_little_of_the_system(call: Call) -> None:
    text = call("shop:app")
    assert (keys(text, "ProtectSystem"), keys(text, "ProtectProc")) == (["strict"], ["invisible"])
    assert (keys(text, "KeyringMode"), keys(text, "RemoveIPC")) == (["private"], ["yes"])
    for wall in WALLS:
        assert keys(text, wall) == ["yes"]


def test_a_low_port_takes_two_units(call: Call, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="port 443 takes rights") as caught:
        call("shop:app", "-b", "127.0.0.1:443")
    assert "--output-dir" in caught.value.remedy
    assert keys(call("shop:app", "-b", "127.0.0.1:443", "--socket"), "ListenStream")
    assert not keys(call("shop:app", "-b", "127.0.0.1:443", "--user"), "ListenStream")


def test_core_dumps_that_are_asked_for_stay(call: Call, tmp_path: Path) -> None:
    """But none of the master, which has keys as well and sets no limit of its own."""
    assert keys(call("shop:app", "--limit-core", "1G"), "LimitCORE") == ["0:infinity"]
    jobs = '[group.jobs]\ncommand = "jobs"\n'
    (tmp_path / "clusterd.toml").write_text(jobs)
    assert keys(call("shop:app"), "LimitCORE") == ["0"]
    (tmp_path / "clusterd.toml").write_text(f'{jobs}limit_core = "1G"\n')
    assert keys(call("shop:app"), "LimitCORE") == ["0:infinity"]


NEW = ("RestartSteps", "RestartMaxDelaySec", "FileDescriptorStorePreserve")


def test_an_older_systemd_gets_what_it_understands(call: Call) -> None:
    """systemd.service(5): notify-reload since 253, RestartSteps and what goes with it since 254."""
    text = call("shop:app", "--name", "blue", "--systemd-version", "252")
    assert keys(text, "Type") == ["notify"]
    (line,) = keys(text, "ExecReload")
    words = shlex.split(line)
    assert words[words.index("reload") :] == ["reload", "--wait", "--name", "blue"]
    assert Path(words[0]).is_absolute()
    assert not any(keys(text, name) for name in NEW)
    assert "RestartSteps" not in text
    between = call("shop:app", "--systemd-version", "253")
    assert keys(between, "Type") == ["notify-reload"]
    assert not keys(between, "ExecReload")
    assert not any(keys(between, name) for name in NEW)
    newer = call("shop:app", "--systemd-version", "254")
    assert not keys(newer, "ExecReload")
    assert all(keys(newer, name) for name in NEW)


def test_the_installed_systemd_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "systemctl"
    fake.write_text("#!/bin/sh\necho 'systemd 249 (249.11-0ubuntu3)'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert installed() == 249
    fake.write_text("#!/bin/sh\necho what\n")
    assert installed() == NEWEST
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert installed() == NEWEST


def test_systemd_gets_the_time_that_a_drain_takes(call: Call) -> None:
    assert keys(call("shop:app"), "TimeoutStopSec") == ["38"]
    assert keys(call("shop:app", "--graceful-timeout", "2m"), "TimeoutStopSec") == ["133"]


def test_the_file_of_settings_counts_and_our_environment_does_not(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clusterd.toml").write_text('app = "shop:app"\ngraceful_timeout = "1s"\n')
    monkeypatch.setenv("CLUSTERD_GRACEFUL_TIMEOUT", "100")
    text = call()
    assert keys(text, "TimeoutStopSec") == ["14"]
    assert keys(text, "WorkingDirectory") == [str(tmp_path)]
    assert command(text)[-1] == "run"


def test_what_is_served_from_a_home_or_temporary_directory_stays_visible(call: Call) -> None:
    text = call("shop:app", "--app-dir", "/home/shop/src", "--log-file", "/var/log/shop/log")
    assert keys(text, "ProtectHome") == ["read-only"]
    assert keys(text, "PrivateTmp") == ["no"]  # this test's own directory is below /tmp
    assert keys(text, "ReadWritePaths") == ["/var/log/shop"]
    text = call("shop:app", "--app-dir", "/home/shop/src", "--log-file", "/dev/stdout")
    assert keys(text, "ReadWritePaths") == [], "it is a descriptor"


def test_an_account_of_its_own_or_one_that_is_told(call: Call) -> None:
    assert keys(call("shop:app"), "DynamicUser") == ["yes"]
    told = call("shop:app", "--as", "shop:www")
    assert keys(told, "DynamicUser") == []
    assert keys(told, "User") == ["shop"]
    assert keys(told, "Group") == ["www"]
    assert command(call("shop:app", "--as", "root"))[-2:] == ["--user", "root"]


def test_a_users_own_manager_gets_only_what_it_can_do(call: Call) -> None:
    text = call("--user", "shop:app")
    assert keys(text, "WantedBy") == ["default.target"]
    for needs_root in ("DynamicUser", "CapabilityBoundingSet", "ProtectSystem", "StateDirectory"):
        assert keys(text, needs_root) == []
    assert keys(text, "NoNewPrivileges") == ["yes"]


def test_a_socket_unit_listens_for_the_service(call: Call, tmp_path: Path) -> None:
    places = ("-b", "127.0.0.1:8000", "-b", "[::1]:8000", "-b", "unix:/run/shop.sock,mode=600")
    call("shop:app", "--socket", *places, "--output-dir", str(tmp_path))
    service = (tmp_path / "shop.service").read_text()
    listening = (tmp_path / "shop.socket").read_text()
    assert keys(service, "Requires") == ["shop.socket"]
    assert keys(listening, "ListenStream") == ["127.0.0.1:8000", "[::1]:8000", "/run/shop.sock"]
    assert keys(listening, "SocketMode") == ["0600"]
    assert keys(listening, "Backlog") == ["2048"]


def test_a_socket_unit_gives_its_files_their_owner_and_group(call: Call) -> None:
    text = call("shop:app", "--socket", "-b", "unix:/run/s,owner=shop,group=www-data")
    assert keys(text, "SocketUser") == ["shop"]
    assert keys(text, "SocketGroup") == ["www-data"]
    text = call("shop:app", "--socket", "-b", "unix:/run/s")
    assert keys(text, "SocketUser") == keys(text, "SocketGroup") == []
    with pytest.raises(ConfigError, match="the same mode, owner and group"):
        call("shop:app", "--socket", "-b", "unix:/run/s", "-b", "unix:/run/t,group=www-data")


@pytest.mark.parametrize("bind", ["fd:3", "127.0.0.1:0"])
def test_a_socket_unit_needs_an_address(call: Call, bind: str) -> None:
    with pytest.raises(ConfigError, match="needs addresses"):
        call("shop:app", "--socket", "-b", bind)


def test_without_an_application_there_is_no_unit(call: Call) -> None:
    with pytest.raises(ConfigError, match="no application"):
        call()


def test_a_word_reaches_the_program_as_it_was_written() -> None:
    """systemd.service(5): % and $ are doubled, and what has blanks is quoted."""
    assert quoted(["a", "50%", "$HOME", "b c", 'd"e', ""]) == r'a 50%% $$HOME "b c" "d\"e" ""'


@pytest.mark.parametrize("mark", ["\n", "\r", "\x0b", "\x1b", "\x7f", "\t"])
def test_no_word_ends_its_line(call: Call, mark: str) -> None:
    """systemd ends lines at a carriage return, too. Root would execute what follows."""
    path = f"/var/log/a{mark}ExecStartPre=evil/log"
    assert shown(["clusterd", path]) == "clusterd '/var/log/a ExecStartPre=evil/log'"
    assert quoted([path]) == f'"/var/log/a\\x{ord(mark):02x}ExecStartPre=evil/log"'
    text = call("shop:app", "--log-file", path)
    assert mark == "\n" or mark not in text
    assert not [line for line in text.splitlines() if line.startswith("ExecStartPre")]


@pytest.mark.parametrize("value", ["w\nExecStartPre=evil", "w\rExecStartPre=evil", "w\\"])
def test_what_would_go_on_in_another_line_is_refused(call: Call, value: str) -> None:
    with pytest.raises(ConfigError, match="cannot stand in a unit, as User="):
        call("shop:app", "--as", value)
    with pytest.raises(ConfigError, match="cannot stand in a unit, as Group="):
        call("shop:app", "--as", f"shop:{value}")
    with pytest.raises(ConfigError, match="cannot stand in a unit, as ListenStream="):
        call("shop:app", "--socket", "-b", f"unix:/run/{value}")


def test_a_directory_that_would_go_on_in_another_line_is_refused(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "shop\nExecStartPre=evil"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("PWD", str(place))
    with pytest.raises(ConfigError, match="as WorkingDirectory="):
        call("shop:app")


def test_a_percent_sign_is_itself(call: Call) -> None:
    """systemd.unit(5): %n would be the name of the unit. In a path a dollar sign is one, too."""
    text = call("shop:app", "--socket", "-b", "unix:/run/%n", "--log-file", "/var/%n$a/log")
    assert keys(text, "ListenStream") == ["/run/%%n"]
    assert keys(text, "ReadWritePaths") == ["/var/%%n$a"]


def test_systemd_analyze_has_nothing_to_say(call: Call, tmp_path: Path) -> None:
    """Of systemd 254 or newer; older ones warn of what they do not know."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    version = subprocess.run(
        ["systemd-analyze", "--version"], capture_output=True, text=True, check=False
    )
    if version.returncode or int(version.stdout.split()[1]) < 254:
        pytest.skip("this systemd is older than 254")
    call("shop:app", "--output-dir", str(tmp_path))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "shop.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_user_that_is_given_as_to_run_is_pointed_to_the_option_for_it(call: Call) -> None:
    with pytest.raises(ConfigError, match="more than one application: www-data") as caught:
        call("shop.main:app", "--user", "www-data")
    assert "the user that the service runs as is --as USER" in caught.value.remedy
