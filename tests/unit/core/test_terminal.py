"""Text for a terminal: what drives it is shown, and everything else is left as it is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.core.terminal import clean, clean_lines

TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # of bidirectional text


@given(text=st.text())
def test_nothing_that_drives_a_terminal_is_left(text: str) -> None:
    for character in clean(text):
        assert unicodedata.category(character) not in ("Cc", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in TURNS
    assert clean_lines(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\rc\td", "a\\x0ab\\x0dc\\x09d"),
        ("\x7f\x9b31m", "\\x7f\\x9b31m"),
        ("user \u202etxt.exe", "user \\u202etxt.exe"),
        ("\u2066\u2069\u200e\u200f\u061c", "\\u2066\\u2069\\u200e\\u200f\\u061c"),
        ("\u2028", "\\u2028"),
        ("naïve “日本” 🎂 –", "naïve “日本” 🎂 –"),
    ],
)
def test_it_is_shown_as_python_would_write_it(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_lines_stay_lines() -> None:
    assert clean_lines("a\n\tb\r\n\x1b") == "a\n        b\\x0d\n\\x1b"
