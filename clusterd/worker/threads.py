"""The threads that a worker's WSGI requests run in: at most so many, started when they are needed.

Everything here is called by the loop's thread and by no other, so nothing needs a lock: a job tells
the loop that it is done, with its answer.
"""

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Job(Protocol):
    """What a thread is given."""

    exchange: Any  # what it is for
    # When its app was last heard of, monotonic seconds; infinity while it waits for its client.
    since: float

    def work(self) -> None:
        """In the thread. Raises nothing."""


class Post:
    """One thread, and what it is at."""

    __slots__ = ("ident", "job", "told")

    def __init__(self) -> None:
        self.ident = 0
        self.job: Job | None = None
        self.told: Job | None = None  # the job that was found to take too long


class Pool:
    """Runs jobs, each in a context of its own, a copy of that in which the pool was made."""

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.size = size
        self.busy = 0  # jobs that were submitted and are not done
        self.changed: Callable[[], None] | None = None  # called when `is_full` has changed
        self._clock = clock
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._posts: list[Post] = []
        self._context = contextvars.copy_context()
        self._waiting: Callable[[], None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether another job would have to wait for a thread."""
        return self.busy >= self.size

    @property
    def threads(self) -> int:
        """How many there are so far."""
        return len(self._posts)

    def submit(self, job: Job) -> None:
        """Have a job done as soon as a thread is free; `done` must be called after it."""
        self.busy += 1
        if len(self._posts) < self.size and self.busy > len(self._posts):
            self._start()
        self._jobs.put(job)
        if self.busy == self.size and self.changed is not None:
            self.changed()

    def done(self) -> None:
        """A job is done."""
        self.busy -= 1
        if self.busy == self.size - 1 and self.changed is not None:
            self.changed()
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting()

    def when_done(self, tell: Callable[[], None]) -> None:
        """Call back once, after the next job that is done."""
        self._waiting = tell

    def overdue(self, limit: float) -> Iterator[tuple[Job, float, int]]:
        """Jobs whose app was silent for longer than `limit` seconds, with that time and their
        thread; each once."""
        now = self._clock()
        for post in self._posts:
            job = post.job
            if job is not None and post.told is not job and now - job.since > limit:
                post.told = job
                yield job, now - job.since, post.ident

    def close(self) -> None:
        """Let the threads end after what they are at; what waits is done first."""
        for _ in self._posts:
            self._jobs.put(None)

    def _start(self) -> None:
        post = Post()
        self._posts.append(post)
        name = f"wsgi {len(self._posts)}"
        # Daemons: a stuck one must not keep the worker from leaving.
        threading.Thread(target=self._serve, args=(post,), name=name, daemon=True).start()

    def _serve(self, post: Post) -> None:
        post.ident = threading.get_ident()
        take, clock, context = self._jobs.get, self._clock, self._context
        while (job := take()) is not None:
            job.since = clock()
            post.job = job
            context.copy().run(job.work)
            post.job = post.told = None
            del job  # or this thread would keep the request while it waits
