"""Takes jobs one at a time. A stop lets the one in hand be finished: that is what TERM means."""

import os
import pathlib
import signal
import threading

JOBS = pathlib.Path("jobs")
ending = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ending.set())
print("waiting for work")
while not ending.wait(0.2):
    for job in JOBS.glob("[!.]*"):
        mine = job.with_name(f".taken-{job.name}")
        try:
            job.rename(mine)  # of several that try, one succeeds
        except FileNotFoundError:
            continue
        print(f"slot {os.environ['CLUSTERD_SLOT']} did {mine.read_text()}")
        mine.unlink()
