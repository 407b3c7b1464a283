"""The shortcut of `clusterd status` shows what the command itself shows, or leaves it to that."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from clusterd.cli import quick
from clusterd.cli.main import invoke, run
from clusterd.core.exits import Exit

STATUS: dict[str, Any] = {
    "ok": True, "name": "clusterd", "app": "shop:app", "version": "0.1.0", "pid": 1,
    "state": "serving", "size": 1, "ready": 1, "generation": 1, "uptime": 1.0, "journal": 12,
}  # fmt: skip


class Master(Protocol):
    """The scripted master of conftest."""

    replies: dict[str, Any]
    asked: list[dict[str, Any]]


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--json"],
        ["--name", "clusterd"],
        ["--name=clusterd", "--json"],
        ["--runtime-dir", "clusterd"],
        ["--runtime-dir=clusterd"],
    ],
)
def test_the_shortcut_and_the_command_say_the_same(
    args: list[str], master: Master, capsys: pytest.CaptureFixture[str]
) -> None:
    master.replies["status"] = STATUS
    shown = quick.status(args, os.environ)
    assert invoke(["status", *args]) == Exit.OK
    assert f"{shown}\n" == capsys.readouterr().out
    assert len(master.asked) == 2


@pytest.mark.parametrize(
    ("files", "environ", "is_quick"),
    [
        ({"clusterd.toml": "workers = 3\n"}, {}, True),
        ({"clusterd.toml": 'name = "clusterd"\n'}, {}, True),
        ({"clusterd.toml": 'name = "shop"\n'}, {}, False),
        ({"clusterd.toml": 'name = "shop"\n'}, {"CLUSTERD_NAME": "clusterd"}, True),
        ({"clusterd.toml": "name = \n"}, {}, False),
        ({"clusterd.toml": 'runtime_dir = "clusterd"\n'}, {"CLUSTERD_RUNTIME_DIR": ""}, True),
        ({"pyproject.toml": '[project]\nname = "clusterd-of-mine"\n'}, {}, True),
        ({"pyproject.toml": '[tool.clusterd]\nname = "shop"\n'}, {}, False),
        ({"pyproject.toml": "tool = 7 # clusterd name\n"}, {}, False),
        ({}, {"CLUSTERD_NAME": "clusterd"}, True),
        ({}, {"CLUSTERD_NAME": "shop"}, False),
        ({}, {"CLUSTERD_NAM": "shop"}, False),
        ({}, {"CLUSTERD_RUTIME_DIR": "/nowhere"}, False),
        ({}, {"CLUSTERD_WORKERS": "7", "CLUSTERD_PORT": "tcp://10.0.0.1:8000"}, True),
        ({}, {"CLUSTERD_CONFIG": "shop.toml"}, False),
        ({}, {"CLUSTERD_RUNTIME_DIR": "/nowhere"}, False),
        ({}, {"CLUSTERD_RUNTIME_DIR": "clusterd"}, True),
    ],
)
def test_where_the_cluster_may_be_elsewhere_the_command_looks_for_it(
    files: dict[str, str], environ: dict[str, str], is_quick: bool, master: Master, place: Path
) -> None:
    master.replies["status"] = STATUS
    for name, text in files.items():
        (place / name).write_text(text)
    assert (quick.status([], {**os.environ, **environ}) is not None) == is_quick
    assert bool(master.asked) == is_quick


@pytest.mark.parametrize("args", [["--help"], ["x"], ["--name"], ["--config", "a"], ["--jso"]])
def test_anything_else_is_for_the_command(args: list[str], master: Master) -> None:
    assert quick.status(args, os.environ) is None
    assert master.asked == []


@pytest.mark.parametrize("reply", [{"ok": False, "error": "tea"}, []])
def test_a_reply_that_is_no_status_is_for_the_command(reply: Any, master: Master) -> None:
    master.replies["status"] = reply
    assert run(["status"]) == Exit.FAILED


def test_it_needs_neither_click_nor_the_table_of_settings(master: Master) -> None:
    """Each takes longer to import than all the rest."""
    master.replies["status"] = STATUS
    code = (
        "import sys; from clusterd.cli.main import run; run(['status']); "
        "print(*sorted({'click', 'dataclasses', 'clusterd.config.settings'} & set(sys.modules)))"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0].endswith("generation 1")
    assert done.stdout.splitlines()[-1] == ""


def test_who_reads_only_the_beginning_is_no_failure(master: Master) -> None:
    master.replies["status"] = {**STATUS, "app": "x" * 200_000}
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = f"{sys.executable} -m clusterd.cli.main status | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == "c0\n"
    assert done.stderr == ""
