"""Answers, and leaves a job behind: a file in `jobs/`, which a process of the group jobs takes."""

import itertools
import os
import pathlib

JOBS = pathlib.Path("jobs")
numbers = itertools.count()


def leave_job(text):
    JOBS.mkdir(exist_ok=True)
    new = JOBS / f".new-{os.getpid()}-{next(numbers)}"
    new.write_text(text)
    new.rename(new.with_name(new.name.removeprefix(".new-")))  # complete when it is seen


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    leave_job(scope["path"])
    await send({"type": "http.response.start", "status": 202, "headers": []})
    await send({"type": "http.response.body", "body": b"It will be seen to.\n"})
