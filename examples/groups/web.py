"""Answers, and leaves a job behind: a file in `jobs/`, which a process of the group jobs takes."""

import itertools
import os
import pathlib

JOBS = pathlib.Path("jobs")
numbers = itertools.count()


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    JOBS.mkdir(exist_ok=True)
    (JOBS / f"{os.getpid()}-{next(numbers)}").write_text(scope["path"])
    await send({"type": "http.response.start", "status": 202, "headers": []})
    await send({"type": "http.response.body", "body": b"It will be seen to.\n"})
