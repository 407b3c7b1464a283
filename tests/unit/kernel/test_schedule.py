"""What the kernel says of the CPU that a process was given."""

import os
import subprocess
import sys

from clusterd.core.vitals import given
from clusterd.kernel.schedule import Meter, used, waited

# Two that spin on one CPU: the one that is asked gets half of it.
SPIN = """
import os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
other = os.fork()
while other == 0:
    pass
end = time.thread_time() + 0.2
while time.thread_time() < end:
    pass
print("spun", flush=True)
sys.stdin.read()
os.kill(other, 9)
os.waitpid(other, 0)
"""


def test_a_process_that_shares_a_cpu_has_waited_for_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as spinner:
        assert spinner.stdout is not None
        assert spinner.stdout.readline() == b"spun\n"
        assert waited(spinner.pid) > 0.02
        assert used(spinner.pid) >= 0.15
        spinner.communicate()
    assert waited(spinner.pid) == 0.0
    assert used(spinner.pid) == 0.0


def test_our_own_meter_never_runs_backwards() -> None:
    meter = Meter()
    first = meter.waited()
    assert first == meter.waited() or first < meter.waited()
    assert waited(os.getpid()) >= first


def test_what_was_not_given_does_not_count() -> None:
    assert given(5.0, 2.0) == 3.0
    assert given(5.0, 7.0) == 0.0  # several short waits may seem longer than the time they are in
    assert given(5.0, -1.0) == 5.0  # a baseline of another process
