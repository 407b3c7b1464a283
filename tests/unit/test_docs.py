"""Documents that say what the code says."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from clusterd import __version__
from clusterd.cli.commands import COMMANDS, clusterd
from clusterd.config.settings import TABLE
from clusterd.config.sources import NOT_IN_A_FILE
from clusterd.core.exits import Exit
from clusterd.core.imports import DOCS, PAGE
from man import generate

ROOT = Path(__file__).parents[2]
# Recording new figures is no fault of the text: `python man/generate.py` takes them over.
FROM_THE_CODE = set(generate.PARTS) - {"figures", "cluster"}


@pytest.mark.parametrize("path", generate.DOCUMENTS, ids=lambda path: path.name)
def test_a_document_has_not_drifted_from_the_code(path: Path) -> None:
    """If this fails: `python man/generate.py`."""
    text = path.read_text()
    assert generate.rendered(text, FROM_THE_CODE) == text


@pytest.mark.parametrize("path", generate.units(), ids=lambda path: path.name)
def test_an_example_is_what_the_command_prints(path: Path) -> None:
    """If this fails: `python man/generate.py`."""
    assert path.read_text() == generate.units()[path]


@pytest.mark.parametrize("path", ["Dockerfile", "kubernetes.yaml"])
def test_the_examples_say_what_clusterd_takes(path: str) -> None:
    text = (ROOT / "examples" / path).read_text()
    found = re.search(r"^ *(?:CMD|args:) (\[.*\])$", text, re.MULTILINE)
    assert found is not None
    words = ["config", "shop.main:app", *json.loads(found[1])]
    result = CliRunner().invoke(clusterd, words)
    assert result.exception is None
    assert "0.0.0.0:9000" in result.output


def test_every_part_is_used_and_every_setting_told() -> None:
    texts = {path.name: path.read_text() for path in generate.DOCUMENTS}
    whole = "\n".join(texts.values())
    for part in generate.PARTS:
        assert f"{generate.BEGIN}{part}" in whole
    for name, row in TABLE.items():
        assert f"`{row.path}`" in texts["README.md"]
        in_a_file = name not in NOT_IN_A_FILE
        assert in_a_file == (f".B {row.path}\n" in texts["clusterd.toml.5"])
        assert name == "app" or not row.is_option or generate.roff(row.flag) in texts["clusterd.1"]
    for name in COMMANDS:
        assert f"clusterd {name}" in texts["README.md"]


def test_exit_statuses_are_told_in_the_readme_and_the_manual() -> None:
    readme, manual = (ROOT / "README.md").read_text(), (ROOT / "man/clusterd.1").read_text()
    for status in Exit:
        assert f"| {status:d} |" in readme
        assert f".TP\n.B {status:d}\n" in manual


def test_the_two_set_up_lines_are_there_once_each() -> None:
    """.ci/run takes the second one from the README and runs it."""
    lines = re.findall(r"^python3 -m venv .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [line.split("&& ")[-1] for line in lines] == [
        ".venv/bin/clusterd run clusterd.demo:app",
        ".venv/bin/pytest",
    ]


def test_links_in_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "path",
    [path for path in generate.DOCUMENTS if path.suffix != ".md"],
    ids=lambda path: path.name,
)
def test_a_manual_page_names_this_version_and_has_no_slip(path: Path) -> None:
    """groff's own warnings, where groff is installed."""
    assert f'"clusterd {__version__}"' in path.read_text().splitlines()[0]
    try:
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-z", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("groff is not installed")
    assert done.stderr == ""


def test_the_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_manual_page_is_in_the_wheel_and_the_one_that_messages_name_is_among_them() -> None:
    """Whoever has installed clusterd has no docs/ directory."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    installed = build["targets"]["wheel"]["shared-data"]
    pages = [path for path in generate.DOCUMENTS if path.suffix != ".md"]
    assert set(installed) == {f"man/{path.name}" for path in pages}
    name = PAGE.removeprefix("man ")
    assert f"share/man/man7/{name}.7" in installed.values()
    assert PAGE in DOCS
    assert PAGE in TABLE["preload"].about.help
