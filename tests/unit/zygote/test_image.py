"""The fingerprint tells today's code from that of the zygote that died."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.zygote.image import fingerprint


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    """A file that is loaded as a module."""
    path = tmp_path / "shop_under_test.py"
    path.write_text("price = 1\n")
    spec = importlib.util.spec_from_file_location("shop_under_test", path)
    assert spec is not None
    sys.modules["shop_under_test"] = importlib.util.module_from_spec(spec)
    yield path
    del sys.modules["shop_under_test"]


def test_the_same_files_have_the_same_fingerprint(module: Path) -> None:
    assert fingerprint() == fingerprint()


def test_a_changed_file_changes_it(module: Path) -> None:
    before = fingerprint()
    module.write_text("price = 22\n")
    assert fingerprint() != before


def test_a_file_of_the_same_size_and_time_in_its_place_changes_it(module: Path) -> None:
    """A deploy that keeps times: the inode is another."""
    before, times = fingerprint(), module.stat()
    other = module.with_suffix(".new")
    other.write_text("price = 2\n")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.rename(module)
    assert fingerprint() != before


def test_a_module_without_a_file_and_one_whose_file_is_gone_are_no_matter(module: Path) -> None:
    module.unlink()
    assert len(fingerprint()) == 16
