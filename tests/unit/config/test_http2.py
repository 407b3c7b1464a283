"""HTTP/2 is spoken where it is wanted and can be had."""

import importlib.util

import pytest

from clusterd.config.http2 import is_spoken


@pytest.mark.parametrize(
    ("setting", "is_there", "spoken"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("on", True, True),
        ("off", True, False),
        ("off", False, False),
    ],
)
def test_it_takes_the_setting_and_the_package(
    setting: str, is_there: bool, spoken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec("pytest") if is_there else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "h2" else None)
    assert is_spoken(setting) is spoken
