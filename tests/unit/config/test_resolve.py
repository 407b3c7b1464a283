"""Sources merged: who wins, what is kept of where a value came from, and what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.config.convert import allowed, convert, show
from clusterd.config.kinds import Kind
from clusterd.config.procfile import groups
from clusterd.config.resolve import load, load_place
from clusterd.config.settings import TABLE, Config
from clusterd.core.errors import ConfigError


def refusal(values: dict[str, Any], environ: dict[str, str], cwd: Path) -> str:
    """The one line that a wrong setting gets."""
    with pytest.raises(ConfigError) as caught:
        load(values, environ, cwd)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text("workers = 2\nbacklog = 10\nmin_ready = '2m'\n")
    environ = {"CLUSTERD_WORKERS": "3", "CLUSTERD_BACKLOG": "11"}
    config = load({"workers": "4", "bind": ()}, environ, tmp_path)
    assert (config.fleet.workers, config.origins["workers"]) == (4, "--workers")
    assert (config.listen.backlog, config.origins["backlog"]) == (11, "CLUSTERD_BACKLOG")
    assert config.fleet.min_ready == 120.0
    assert config.origins["min_ready"] == "clusterd.toml min_ready"
    assert (config.listen.bind, config.origins["bind"]) == (("127.0.0.1:8000",), "default")


def test_web_concurrency_counts_unless_our_own_variable_is_set(tmp_path: Path) -> None:
    assert load({}, {"WEB_CONCURRENCY": "7"}, tmp_path).fleet.workers == 7
    both = {"WEB_CONCURRENCY": "7", "CLUSTERD_WORKERS": "5"}
    assert load({}, both, tmp_path).fleet.workers == 5
    (tmp_path / "clusterd.toml").write_text("workers = 2")
    assert load({}, {"WEB_CONCURRENCY": "7"}, tmp_path).fleet.workers == 7


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    environ = {"CLUSTERD_WORKERS": "", "WEB_CONCURRENCY": "", "CLUSTERD_CONFIG": ""}
    assert load({}, environ, tmp_path).origins["workers"].startswith("default (auto: ")


def test_clusterd_toml_is_read_rather_than_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.clusterd]\nworkers = 3\n")
    assert load({}, {}, tmp_path).origins["workers"] == "pyproject.toml [tool.clusterd] workers"
    (tmp_path / "clusterd.toml").write_text("workers = 2\n")
    assert load({}, {}, tmp_path).fleet.workers == 2


def test_a_pyproject_that_does_not_speak_of_us_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'shop'\n")
    assert set(load({"workers": "1"}, {}, tmp_path).origins.values()) == {"default", "--workers"}


def test_a_named_file_is_read_instead(tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text("workers = 2\n")
    (tmp_path / "other.toml").write_text("workers = 9\n")
    assert load({"config": "other.toml"}, {}, tmp_path).fleet.workers == 9
    assert load({}, {"CLUSTERD_CONFIG": "other.toml"}, tmp_path).fleet.workers == 9


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("worker = 2", "clusterd.toml: 'worker' is no setting; did you mean workers?"),
        ("keep-alive = 2", "clusterd.toml: 'keep-alive' is no setting; did you mean keep_alive?"),
        ("zzz = 2", "clusterd.toml: 'zzz' is no setting; 'clusterd config' lists all"),
        (
            "[http]\nkeep_alive = 2",
            "clusterd.toml: 'http' is no setting; tables are [web], [group.NAME] and [jobs], and "
            "settings are plain keys",
        ),
        (
            "workers = true",
            "clusterd.toml workers: true is not allowed; allowed: auto, or 1 to 480",
        ),
        (
            "backlog = 65537",
            "clusterd.toml backlog: 65537 is not allowed; allowed: a whole number from 1 to 65536",
        ),
        (
            "balance = 'fair'",
            "clusterd.toml balance: 'fair' is not allowed; allowed: shared, reuseport",
        ),
        (
            "bind = []",
            "clusterd.toml bind: there is no address to listen on; allowed: at least one",
        ),
        (
            "bind = 8000",
            "clusterd.toml bind: 8000 is not allowed; allowed: a text or a list of texts",
        ),
        ("bind = ['a:1', 'a:1']", "clusterd.toml bind: 'a:1' is given twice"),
        ("bind = ['a:1', 'a:1,tls=off']", "clusterd.toml bind: 'a:1' is given twice"),
        (
            "access_log = 'maybe'",
            "clusterd.toml access_log: 'maybe' is not allowed; allowed: true, false",
        ),
    ],
)
def test_a_wrong_key_or_value_gets_one_line(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text(text)
    assert refusal({}, {}, tmp_path) == line


def test_a_file_that_is_no_toml_or_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clusterd.toml"
    path.write_text("workers 2")
    assert "is not TOML: Expected '='" in refusal({}, {}, tmp_path)
    path.write_bytes(b"name = '\xff'")
    assert "is not UTF-8 text, at byte 8" in refusal({}, {}, tmp_path)
    assert "none.toml: cannot be read: No such file" in refusal(
        {"config": "none.toml"}, {}, tmp_path
    )
    (tmp_path / "pyproject.toml").write_text("[tool]\nclusterd = 3\n")
    assert "is no table" in refusal({"config": "pyproject.toml"}, {}, tmp_path)


def test_a_misspelt_variable_is_refused_and_a_strangers_is_not_ours(tmp_path: Path) -> None:
    line = "CLUSTERD_WORKER: no setting has this name; did you mean CLUSTERD_WORKERS?"
    assert refusal({}, {"CLUSTERD_WORKER": "2"}, tmp_path) == line
    kubernetes = {"CLUSTERD_PORT_8000_TCP_ADDR": "10.0.0.1", "CLUSTERD_SERVICE_HOST": "10.0.0.1"}
    assert load({}, kubernetes, tmp_path).listen.bind == ("127.0.0.1:8000",)


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"workers": "none"}, "--workers: 'none' is not allowed; allowed: auto, or 1 to 480"),
        ({"workers": "0"}, "--workers: '0' is not allowed"),
        ({"workers": "٣"}, "--workers: '٣' is not allowed"),
        ({"keep_alive": "-1"}, "--keep-alive: '-1' is not allowed; allowed: a duration such as"),
        ({"keep_alive": "nan"}, "--keep-alive: 'nan' is not allowed"),
        ({"keep_alive": "1e999"}, "--keep-alive: '1e999' is not allowed"),
        ({"keep_alive": "99999999999"}, "--keep-alive: '99999999999' is not allowed"),
        ({"limit_headers": "1"}, "--limit-headers: '1' is not allowed; allowed: a size from 256"),
        ({"limit_body": "1 parsec"}, "--limit-body: '1 parsec' is not allowed"),
        ({"name": "a/b"}, "--name: 'a/b' is not allowed"),
        (
            {"app": "shop/main.py"},
            "APP: 'shop/main.py' is a file; a module is wanted: shop.main:app",
        ),
        ({"app": "shop:"}, "APP: 'shop:' is not allowed; allowed: module:attribute"),
        ({"app": "shop main"}, "APP: 'shop main' is not allowed"),
        ({"bind": ("nowhere",)}, "--bind: 'nowhere' is no address"),
        ({"bind": ("unix:" + "d/" * 50,)}, "--bind: the path of"),
    ],
)
def test_a_wrong_option_names_itself(values: dict[str, Any], start: str, tmp_path: Path) -> None:
    assert refusal(values, {}, tmp_path).startswith(start)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", "on"),
        ("false", "off"),
        ('"no"', "off"),
        ('"On"', "on"),
        ('"auto"', "auto"),
    ],
)
def test_a_choice_of_on_and_off_reads_what_a_switch_reads(
    written: str, value: str, tmp_path: Path
) -> None:
    """`no_new_privs` was a switch once, and files say so still."""
    (tmp_path / "clusterd.toml").write_text(f"no_new_privs = {written}\nhttp2 = {written}\n")
    config = load({}, {}, tmp_path)
    assert (config.limits.no_new_privs, config.http.http2) == (value, value)
    (tmp_path / "clusterd.toml").write_text("preload = true\n")
    assert "preload: true is not allowed" in refusal({}, {}, tmp_path)


def test_what_is_overruled_must_be_right_too(tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text("workers = 'some'")
    assert refusal({"workers": "2"}, {}, tmp_path).startswith("clusterd.toml workers: 'some'")


def test_an_application_has_one_canonical_name(tmp_path: Path) -> None:
    assert load({"app": "shop"}, {}, tmp_path).app.app == "shop:app"
    made = load({"app": "shop.main:make()"}, {}, tmp_path)
    assert (made.app.app, made.app.factory, made.origins["factory"]) == (
        "shop.main:make",
        True,
        "APP",
    )


def test_paths_are_absolute_and_links_are_kept(tmp_path: Path) -> None:
    """A deployment switches the link, so it must not be resolved at start."""
    (tmp_path / "releases").mkdir()
    (tmp_path / "current").symlink_to("releases")
    config = load({"app_dir": "src", "bind": ("unix:x.sock",)}, {}, tmp_path / "current")
    assert config.app.app_dir == str(tmp_path / "current/src")
    assert config.listen.bind == (f"unix:{tmp_path}/current/x.sock",)
    assert config.log.log_file == ""


def test_a_dash_is_standard_error(tmp_path: Path) -> None:
    """As in gunicorn; and not a file of that name."""
    assert load({"log_file": "-"}, {}, tmp_path).log.log_file == ""
    assert load({"log_file": "./-"}, {}, tmp_path).log.log_file == f"{tmp_path}/-"


def test_a_config_survives_the_wire(tmp_path: Path) -> None:
    config = load({"app": "shop:app", "bind": ("unix:x,mode=600", "[::1]:0")}, {}, tmp_path)
    assert Config.from_wire(json.loads(json.dumps(config.to_wire()))) == config


def test_a_broken_file_does_not_keep_anybody_from_finding_the_cluster(tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text("???")
    place, remark, _ = load_place({"runtime_dir": "run"}, {}, tmp_path)
    assert place.runtime_dir == str(tmp_path / "run")
    assert "is not TOML" in remark


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name)
def test_every_default_reads_back_as_it_is_shown(row: Any) -> None:
    if row.name not in {"app", "workers"} and row.default != "":
        assert convert(row, show(row, row.default)) == row.default
    assert row.about.help.endswith(".")
    assert allowed(row)
    assert bool(row.about.choices) == (row.about.kind is Kind.CHOICE)


@given(
    st.sampled_from(list(TABLE)),
    st.one_of(
        st.text(),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.lists(st.text()),
        st.none(),
        st.dictionaries(st.text(), st.integers()),
        st.dates(),
    ),
)
def test_whatever_a_file_holds_is_a_value_or_a_config_error(name: str, raw: object) -> None:
    row = TABLE[name]
    value, lines = row.default, 1
    try:
        value = convert(row, raw)
    except ConfigError as error:
        lines = len(error.message.splitlines())
    assert isinstance(value, type(row.default))
    assert lines == 1


def test_a_file_cannot_say_that_files_are_to_be_trusted(tmp_path: Path) -> None:
    file = tmp_path / "clusterd.toml"
    for text in ("insecure_paths = true\n", "[web]\ninsecure_paths = true\n"):
        file.write_text(text)
        assert "insecure_paths counts only as --insecure-paths" in refusal({}, {}, tmp_path)
    file.unlink()
    assert load({}, {"CLUSTERD_INSECURE_PATHS": "1"}, tmp_path).trust.insecure_paths


def test_a_file_of_settings_cannot_take_all_memory_or_the_stack(tmp_path: Path) -> None:
    """The master reads it at each reload, and another user may have changed it."""
    file = tmp_path / "clusterd.toml"
    with file.open("wb") as hole:
        hole.truncate(1 << 40)
    assert refusal({}, {}, tmp_path) == f"{file}: is larger than 1048576 bytes"
    file.write_text("bind = " + "[" * 100_000)
    assert "nested too deeply" in refusal({}, {}, tmp_path)


def test_no_file_of_settings_is_waited_for(tmp_path: Path) -> None:
    """A FIFO has no content until another process writes to it."""
    os.mkfifo(tmp_path / "fifo")
    for kind, path in (("FIFO", tmp_path / "fifo"), ("directory", tmp_path)):
        said = refusal({"config": str(path)}, {}, tmp_path)
        assert said == f"{path}: is not a regular file", kind
        with pytest.raises(ConfigError, match="is not a regular file"):
            groups(str(path), {})
    before = os.listdir("/proc/self/fd")
    refusal({"config": str(tmp_path)}, {}, tmp_path)
    assert os.listdir("/proc/self/fd") == before
