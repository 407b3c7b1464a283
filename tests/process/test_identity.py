"""What is meant for one process and made while importing is not the same in two workers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import APPS, ROOT, running, serving


def told(place: Path) -> list[dict[str, Any]]:
    """What each worker had when it started."""
    return [json.loads(file.read_text()) for file in place.iterdir()]


def test_a_uuid_that_the_application_draws_is_each_workers_own(tmp_path: Path) -> None:
    place = tmp_path / "told"
    place.mkdir()
    with serving(tmp_path, "identified:app", IDENTITY="yes", TOLD=str(place)) as server:
        first, second = told(place)
        assert first["node"] != second["node"]
        (warned,) = server.find("import_per_worker")
        assert warned["reason"] == "the import left a value of uuid.uuid4() (identified.py:9)"


@pytest.mark.parametrize(("name", "is_forked"), [("mlflow", True), ("shop", False)])
def test_an_installed_application_is_forked_where_its_draws_are_known_to_be_harmless(
    name: str, is_forked: bool, tmp_path: Path
) -> None:
    """Any other that is installed may be a user's own, whose workers need an id each."""
    place, told_at = tmp_path / "site-packages", tmp_path / "told"
    (place / name).mkdir(parents=True)
    told_at.mkdir()
    code = (APPS / "identified.py").read_text()
    (place / name / "server.py").write_text(code)
    variables: dict[str, Any] = {
        "PYTHONPATH": f"{ROOT}:{place}",
        "IDENTITY": "yes",
        "TOLD": str(told_at),
    }
    with serving(tmp_path, f"{name}.server:app", **variables) as server:
        first, second = told(told_at)
        assert (first["node"] == second["node"]) == is_forked
        assert bool(server.find("import_per_worker")) == (not is_forked)


def test_it_fails_the_import_where_preload_is_always(tmp_path: Path) -> None:
    options = ("--preload", "always")
    with running(
        tmp_path, "identified:app", *options, IDENTITY="yes", TOLD=str(tmp_path)
    ) as server:
        assert server.wait() == 3
        assert "a value of uuid.uuid4() (identified.py:9)" in server.log()


def test_forked_workers_draw_numbers_of_their_own(tmp_path: Path) -> None:
    """An instance without a seed draws anew; one that was given a seed is alike everywhere."""
    place = tmp_path / "told"
    place.mkdir()
    with serving(tmp_path, "identified:app", "--preload", "always", TOLD=str(place)):
        first, second = told(place)
        assert first["rng"] != second["rng"]
        assert first["dice"] == second["dice"]
