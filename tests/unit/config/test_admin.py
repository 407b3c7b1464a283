"""The admin endpoint as a group of its own."""

from pathlib import Path
from typing import Any

import pytest

from clusterd.config import admin, runtime_dir
from clusterd.config.resolve import load, load_groups
from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError

RUN = {"RUNTIME_DIRECTORY": "/tmp"}


def groups(cwd: Path, environ: dict[str, str] = RUN, **values: Any) -> dict[str, Config]:
    return load_groups({"app": "shop:app", **values}, environ, cwd)


def test_there_is_none_unless_it_has_an_address(tmp_path: Path) -> None:
    assert list(groups(tmp_path)) == ["web"]
    assert list(groups(tmp_path, admin="127.0.0.1:9000")) == ["web", "admin"]


def test_it_is_one_plain_worker_whatever_the_others_are(tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text(
        "access_log = true\nmax_requests = 10\nworkers = 7\nlog_level = 'debug'\n"
        "max_age = '1h'\nmin_ready = '5s'\n"
    )
    found = groups(tmp_path, admin="127.0.0.1:9000")
    config = found["admin"]
    assert config.listen.bind == ("127.0.0.1:9000",)
    assert (config.fleet.workers, config.fleet.min_ready) == (1, 0.0)
    assert config.fleet.rollback_keep == 0.0
    assert (config.vitals.max_requests, config.vitals.max_age) == (0, 0.0)
    assert (config.log.access_log, config.log.log_level) == (False, "debug")
    assert config.tls.tls_cert == ()
    assert config.place == found["web"].place
    assert Config.from_wire(config.to_wire()) == config


def test_its_application_is_told_where_the_control_socket_is(tmp_path: Path) -> None:
    environment = groups(tmp_path, admin=":9000", runtime_dir="run")["admin"].command.environment
    assert environment[0] == f"CLUSTERD_CONTROL={tmp_path}/run/clusterd.sock"
    environment = groups(tmp_path, admin=":9000", name="shop")["admin"].command.environment
    assert environment[0] == "CLUSTERD_CONTROL=/tmp/shop.sock"


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"admin": ":9000", "admin_hosts": ("*",)}, "* 0.0.0.0"),
        ({"admin": "metrics.internal:9000"}, "metrics.internal"),
        ({"admin": "127.0.0.1:9000", "admin_hosts": ("a", "b")}, "a b 127.0.0.1"),
        ({"admin": "unix:/run/a.sock", "admin_hosts": ("a",)}, "a"),
    ],
)
def test_its_application_is_told_its_names(
    tmp_path: Path, values: dict[str, Any], names: str
) -> None:
    environment = groups(tmp_path, **values)["admin"].command.environment
    assert environment[1] == f"CLUSTERD_ADMIN_HOSTS={names}"


def test_a_name_with_a_port_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="host names without a port"):
        groups(tmp_path, admin=":9000", admin_hosts=("a:9000",))


def test_names_in_a_variable_are_parted_by_commas_or_blanks(tmp_path: Path) -> None:
    environ = {**RUN, "CLUSTERD_ADMIN_HOSTS": "a.example, b"}
    assert groups(tmp_path, environ)["web"].place.admin_hosts == ("a.example", "b")


def test_a_unix_socket_is_anchored_where_clusterd_was_started(tmp_path: Path) -> None:
    found = groups(tmp_path, admin="unix:run/admin.sock,mode=600")
    assert found["admin"].listen.bind == (f"unix:{tmp_path}/run/admin.sock,mode=600",)
    assert found["web"].place.admin == found["admin"].listen.bind[0]


def test_without_a_place_for_the_control_socket_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_dir, "find", lambda *_: None)
    with pytest.raises(ConfigError) as caught:
        groups(tmp_path, {}, admin="127.0.0.1:9000")
    assert caught.value.message == (
        "--admin: the admin endpoint needs the control socket, and there is no place for it"
    )
    assert "--runtime-dir" in caught.value.remedy


def test_without_the_package_it_is_refused_and_says_what_to_install() -> None:
    main = load({"admin": ":9000"}, {}, "/")
    with pytest.raises(ConfigError) as caught:
        admin.group(main, RUN, has_it=False)
    assert "prometheus_client is not installed" in caught.value.message
    assert caught.value.remedy == "pip install 'clusterd[metrics]'"


@pytest.mark.parametrize("name", ["admin", "watch"])
def test_its_name_cannot_be_had_by_others(tmp_path: Path, name: str) -> None:
    (tmp_path / "clusterd.toml").write_text(f"[group.{name}]\ncommand = 'true'\n")
    with pytest.raises(ConfigError, match="clusterd has one of its own"):
        groups(tmp_path)


@pytest.mark.parametrize("address", ["9000x", "unix:", "127.0.0.1:99999"])
def test_an_address_that_is_none_names_the_option(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"^--admin: "):
        groups(tmp_path, admin=address)
