"""The last word of a process that is ended by SIGABRT."""

import signal
import subprocess
import sys

CODE = """
import os
from clusterd.kernel.abort import explain_abort
def stand_still():
    os.abort()
explain_abort()
stand_still()
"""


def test_an_abort_says_where_it_was_on_standard_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in done.stderr
    assert "in stand_still" in done.stderr
