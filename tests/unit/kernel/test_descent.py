"""The mark that tells of which process of ours another one descends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterd.kernel.descent import ancestor_of, children, orphan
from clusterd.kernel.process import start_ticks

SCRIPT = """
import os, subprocess, sys
from clusterd.kernel.descent import mark
assert mark()
if os.fork() == 0:
    os.setsid()
    os.environ.clear()
    os.execv("/bin/sh", ["sh", "-c", "sleep 600 & echo $!; exec sleep 601"])
sys.stdin.read()
"""


def test_forks_and_programs_have_the_mark_of_their_ancestor() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as marked:
        assert marked.stdout is not None
        program = int(marked.stdout.readline())
        try:
            found = ancestor_of(program)
            assert found is not None
            assert found[0] == marked.pid
            assert ancestor_of(marked.pid) == found
            assert orphan(program) is None  # its ancestor is there
            assert marked.pid in children()
            marked.kill()
            marked.wait()
            one = orphan(program)
            assert one is not None
            assert (one.pid, one.ticks) == (program, start_ticks(program))
            assert one.name in ("sh", "sleep")
            assert (one.ancestor, one.same_session) == (found, False)
        finally:
            os.killpg(os.getpgid(program), 9)


def test_a_process_without_a_mark_is_a_stranger() -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            assert ancestor_of(stranger.pid) is None
            assert orphan(stranger.pid) is None
        finally:
            stranger.kill()


@pytest.mark.parametrize("limit", ["unlimited", "1073741824", ""])
def test_other_limits_are_no_mark(tmp_path: Path, limit: str) -> None:
    (tmp_path / "5").mkdir()
    line = f"Max resident set          {limit}            unlimited            bytes\n"
    (tmp_path / "5" / "limits").write_text(line if limit else "")
    assert ancestor_of(5, tmp_path) is None


NESTED = """
import os, subprocess, sys
from clusterd.kernel.descent import ancestor_of, mark, orphan
assert mark()
ready, told = os.pipe()
if os.fork():
    os._exit(0)  # our ancestor, which is of a cluster around ours
os.close(told)
os.read(ready, 1)
with subprocess.Popen(["sleep", "600"]) as stranger:
    print(ancestor_of(stranger.pid) is not None, orphan(stranger.pid))
    stranger.kill()
"""


def test_what_descends_from_our_own_ancestor_is_no_orphan_of_ours() -> None:
    """A cluster that a worker of another one started has that worker's mark, as have strangers."""
    told = subprocess.check_output([sys.executable, "-c", NESTED], text=True)
    assert told.split() == ["True", "None"]
