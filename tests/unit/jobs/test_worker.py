"""The job worker on a store in memory: what it claims, how attempts end, and how it leaves."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clusterd.jobs import outage
from clusterd.jobs import worker as module
from clusterd.jobs.api import Jobs
from clusterd.jobs.current import current_job
from clusterd.jobs.errors import Discard
from clusterd.jobs.memory import MemoryStore
from clusterd.jobs.records import Claim, Claimed, Filter, JobInfo, NewJob, Owner
from clusterd.jobs.states import State
from clusterd.jobs.store import StoreError, StoreUnavailable
from clusterd.jobs.worker import JobWorker

ME = Owner("node", 1, 1, "jobs", 0, 1)
ANOTHER = Owner("node", 2, 2)


class Rig:
    """A worker, its store, and jobs by their ids."""

    def __init__(self, *functions: Callable[..., Any], **more: Any) -> None:
        self.store = more.pop("store", None) or MemoryStore()
        self.jobs = Jobs()
        self.jobs.backend._store = self.store
        self.gone: list[tuple[str, str]] = []
        self.jobs.on_discarded(lambda job, error: self.gone.append((job.name, str(error))))
        for function in functions:
            self.jobs.job(name=function.__name__, backoff=0.0)(function)
        self.left: list[str] = []
        self.reports: list[tuple[int, int, int]] = []
        self.worker = JobWorker(
            self.jobs,
            self.store,
            ME,
            report=lambda running, done, failed, _: self.reports.append((running, done, failed)),
            leave=self.left.append,
            **more,
        )

    async def enqueue(self, name: str, *args: Any, **options: Any) -> str:
        handle = await self.jobs.registry[name].options(**options).aenqueue(*args)
        return handle.id

    async def info(self, id: str) -> JobInfo:
        found = await self.store.get(id)
        assert found is not None
        return found

    async def until(self, id: str, *states: State) -> JobInfo:
        """Wait for a job to be in one of these states, and its outcome in the store."""
        async with asyncio.timeout(30):
            while (info := await self.info(id)).state not in states:
                await asyncio.sleep(0)
        return info

    @asynccontextmanager
    async def running(self, left: float = 20.0) -> AsyncIterator[None]:
        await self.worker.start()
        try:
            yield
        finally:
            loop = asyncio.get_running_loop()
            end = loop.time() + left
            await self.worker.stop(lambda: end - loop.time())


async def double(number: int) -> int:
    return 2 * number


run = asyncio.run


def test_jobs_run_and_their_results_are_stored() -> None:
    def halve(number: int) -> float:
        assert threading.current_thread() is not threading.main_thread()
        return number / 2

    async def main() -> None:
        rig = Rig(double, halve)
        before = await rig.enqueue("double", 4)
        async with rig.running():
            after = await rig.enqueue("halve", 4)
            assert (await rig.until(before, State.COMPLETED)).result == b"8"
            assert (await rig.until(after, State.COMPLETED)).result == b"2.0"
        assert rig.reports[-1] == (0, 2, 0)

    run(main())


def test_no_more_run_at_once_than_there_are_places() -> None:
    async def main() -> None:
        gate, busy, most = asyncio.Event(), 0, 0

        async def work() -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await gate.wait()
            busy -= 1

        rig = Rig(work, concurrency=3)
        ids = [await rig.enqueue("work") for _ in range(7)]
        async with rig.running():
            async with asyncio.timeout(30):
                while busy < 3:
                    await asyncio.sleep(0)
            assert (await rig.info(ids[3])).state is State.AVAILABLE
            gate.set()
            for id in ids:
                await rig.until(id, State.COMPLETED)
        assert most == 3

    run(main())


def test_unknown_jobs_wait_for_a_worker_that_knows_them() -> None:
    async def main() -> None:
        rig = Rig(double)
        unknown = "f" * 32
        await rig.store.enqueue([NewJob(unknown, "of the next release", b"[]")])
        known = await rig.enqueue("double", 1)
        async with rig.running():
            await rig.until(known, State.COMPLETED)
        assert (await rig.info(unknown)).state is State.AVAILABLE

    run(main())


def test_what_fails_is_tried_again_and_in_the_end_discarded() -> None:
    async def fail() -> None:
        raise ValueError(f"attempt {current_job().attempt}")

    async def main() -> None:
        rig = Rig(fail)
        id = await rig.enqueue("fail", attempts=2)
        async with rig.running():
            info = await rig.until(id, State.SCHEDULED)
            assert info.error.endswith("ValueError: attempt 1\n")
            await rig.store.promote()
            info = await rig.until(id, State.DISCARDED)
        assert info.error.endswith("ValueError: attempt 2\n")
        assert info.attempts == 2
        assert rig.gone == [("fail", "attempt 2")]
        assert rig.reports[-1] == (0, 2, 2)

    run(main())


def test_a_job_that_exits_or_whose_arguments_have_changed_ends_no_worker() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        rig = Rig(leave, double)
        ids = [await rig.enqueue("leave", attempts=1), "f" * 32]
        await rig.store.enqueue([NewJob(ids[1], "double", b"{}", max_attempts=1)])
        async with rig.running():
            assert "SystemExit: 3" in (await rig.until(ids[0], State.DISCARDED)).error
            assert (await rig.until(ids[1], State.DISCARDED)).error
            assert await rig.until(await rig.enqueue("double", 1), State.COMPLETED)

    run(main())


def test_a_job_may_decide_to_be_discarded() -> None:
    async def decide() -> None:
        raise Discard("no such user")

    async def main() -> None:
        rig = Rig(decide)
        id = await rig.enqueue("decide")
        async with rig.running():
            info = await rig.until(id, State.DISCARDED)
        assert (info.error, info.attempts) == ("Discard: no such user", 1)

    run(main())


def test_an_attempt_that_takes_too_long_is_cancelled() -> None:
    async def main() -> None:
        seen: list[str] = []

        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        rig = Rig(wait)
        id = await rig.enqueue("wait", attempts=1, timeout=0.01)
        async with rig.running():
            info = await rig.until(id, State.DISCARDED)
        assert "JobTimeout: the attempt took longer than 0.01 s" in info.error
        assert seen == ["cancelled"]
        assert rig.left == []

    run(main())


def test_a_worker_with_a_thread_that_cannot_be_stopped_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STUBBORN", 0.0)
    gate = threading.Event()

    def block() -> None:
        gate.wait(30)

    async def main() -> None:
        rig = Rig(block)
        id = await rig.enqueue("block", attempts=1, timeout=0.01)
        async with rig.running():
            assert "JobTimeout" in (await rig.until(id, State.DISCARDED)).error
            async with asyncio.timeout(30):
                while not rig.left:
                    await asyncio.sleep(0)
            gate.set()
        assert rig.left == ["job block does not end when it is cancelled"]

    run(main())


def test_what_users_cancel_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEND", 0.0)

    async def wait() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        rig = Rig(wait)
        id = await rig.enqueue("wait")
        async with rig.running():
            await rig.until(id, State.RUNNING)
            assert await rig.store.cancel(Filter(ids=(id,))) == 1
            info = await rig.until(id, State.CANCELLED)
        assert info.attempts == 0

    run(main())


def test_what_a_job_reports_right_before_its_end_is_stored() -> None:
    async def quick() -> None:
        current_job().progress(1.0)
        current_job().log("done")

    async def main() -> None:
        rig = Rig(quick)
        id = await rig.enqueue("quick")
        async with rig.running():
            info = await rig.until(id, State.COMPLETED)
        assert info.progress == 1.0
        assert [one.text for one in info.history if one.event == "log"] == ["done"]

    run(main())


def test_progress_and_log_lines_are_stored_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEND", 0.0)

    async def main() -> None:
        gate = asyncio.Event()

        async def tell() -> None:
            current_job().progress(0.4, {"row": 4})
            current_job().log("the fourth row")
            await gate.wait()

        rig = Rig(tell)
        id = await rig.enqueue("tell")
        async with rig.running(), asyncio.timeout(30):
            while not (info := await rig.info(id)).progress:
                await asyncio.sleep(0)
            gate.set()
            history = (await rig.until(id, State.COMPLETED)).history
        assert (info.progress, json.loads(info.progress_data)) == (0.4, {"row": 4})
        assert [one.text for one in history if one.event == "log"] == ["the fourth row"]

    run(main())


def test_a_job_that_was_given_to_another_worker_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its lease ran out while this process stood still."""
    monkeypatch.setattr(module, "TEND", 0.0)
    ended: list[str] = []

    async def tell() -> None:
        try:
            while True:
                current_job().log("still here")
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        rig = Rig(tell, concurrency=1)
        id = await rig.enqueue("tell")
        async with rig.running():
            await rig.until(id, State.RUNNING)
            await rig.store.pause("default", True)
            await rig.store.release([ME.key], "its lease ran out")
            async with asyncio.timeout(30):
                while not ended:
                    await asyncio.sleep(0)
        assert (await rig.info(id)).state is State.AVAILABLE

    run(main())


def test_a_worker_that_leaves_finishes_what_it_can_and_hands_back_the_rest() -> None:
    """What is handed back has not used an attempt."""

    async def main() -> None:
        gate = asyncio.Event()

        async def soon() -> None:
            await gate.wait()

        async def never() -> None:
            await asyncio.Event().wait()

        rig = Rig(soon, never)
        ids = [await rig.enqueue(name) for name in ("soon", "never")]
        async with rig.running(left=module.LAST + 0.1):
            for id in ids:
                await rig.until(id, State.RUNNING)
            late = await rig.enqueue("soon")
            await rig.until(late, State.RUNNING)
            gate.set()
        assert (await rig.info(ids[0])).state is State.COMPLETED
        info = await rig.info(ids[1])
        assert (info.state, info.attempts, info.crashes) == (State.AVAILABLE, 0, 0)

    run(main())


def test_a_job_that_is_deaf_to_its_cancellation_is_handed_back_too() -> None:
    async def main() -> None:
        over = asyncio.Event()

        async def deaf() -> None:
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    pass

        rig = Rig(deaf)
        id = await rig.enqueue("deaf")
        async with rig.running(left=module.LAST + 0.1):
            await rig.until(id, State.RUNNING)
        info = await rig.info(id)
        assert (info.state, info.attempts) == (State.AVAILABLE, 0)
        over.set()

    run(main())


@pytest.mark.parametrize("is_leaving", [False, True])
def test_a_job_that_is_deaf_to_its_timeout_has_used_an_attempt(
    is_leaving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handed back, it would be run again for ever, and cost a worker each time."""
    monkeypatch.setattr(module, "STUBBORN", 60.0 if is_leaving else 0.0)

    async def main() -> None:
        told, over = asyncio.Event(), asyncio.Event()

        async def deaf() -> None:
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    told.set()

        rig = Rig(deaf)
        id = await rig.enqueue("deaf", timeout=0.01, attempts=1)
        try:
            async with rig.running(left=module.LAST + 0.1):
                await told.wait()
                if not is_leaving:
                    await rig.until(id, State.DISCARDED)
                    assert rig.left == ["job deaf does not end when it is cancelled"]
        finally:
            over.set()
        info = await rig.info(id)
        assert (info.state, info.attempts, info.crashes) == (State.DISCARDED, 1, 0)
        assert "JobTimeout" in info.error

    run(main())


def test_a_worker_whose_tasks_a_job_cancelled_is_replaced() -> None:
    async def main() -> None:
        async def cancel() -> None:
            for task in asyncio.all_tasks():
                if task.get_name().startswith("job worker"):
                    task.cancel()

        rig = Rig(cancel)
        await rig.enqueue("cancel")
        async with rig.running():
            async with asyncio.timeout(30):
                while not rig.left:
                    await asyncio.sleep(0)
        assert set(rig.left) == {"a job cancelled the job worker's tasks"}

    run(main())


def test_an_error_that_a_job_makes_of_its_cancellation_costs_no_attempt() -> None:
    async def main() -> None:
        async def convert() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise RuntimeError("the connection is closed") from None

        rig = Rig(convert)
        id = await rig.enqueue("convert", attempts=1)
        async with rig.running(left=module.LAST + 0.1):
            await rig.until(id, State.RUNNING)
        info = await rig.info(id)
        assert (info.state, info.attempts) == (State.AVAILABLE, 0)
        assert "the connection is closed" in info.history[-1].text
        assert not rig.gone

    run(main())


def test_a_job_that_was_handed_back_is_not_discarded_when_its_process_ends() -> None:
    async def main() -> None:
        gate = threading.Event()

        def block() -> None:
            gate.wait()

        rig = Rig(block)
        id = await rig.enqueue("block", attempts=1)
        async with rig.running(left=module.LAST + 0.1):
            await rig.until(id, State.RUNNING)
        for _ in range(2):  # as workers do at their end; the second time what the first began
            strays = asyncio.all_tasks() - {asyncio.current_task()}
            for task in strays:
                task.cancel()
            await asyncio.gather(*strays, return_exceptions=True)
        assert (await rig.info(id)).state is State.AVAILABLE
        assert not rig.gone
        gate.set()

    run(main())


def test_a_plain_function_may_raise_stop_iteration() -> None:
    """A future cannot carry it: until Python 3.12 the attempt would last until its timeout."""

    async def main() -> None:
        def first() -> int:
            empty: list[int] = []
            return next(iter(empty))

        rig = Rig(first)
        id = await rig.enqueue("first", attempts=1)
        async with rig.running():
            info = await rig.until(id, State.DISCARDED)
        assert info.error.endswith("RuntimeError: the job raised StopIteration\n")

    run(main())


class Slow(MemoryStore):
    """A store that gives out jobs, and takes its time to say so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.gate = asyncio.Event(), asyncio.Event()

    async def claim(self, claim: Claim) -> list[Claimed]:
        claimed = await super().claim(claim)
        self.is_asked.set()
        await self.gate.wait()
        return claimed


def test_what_is_claimed_while_the_order_to_leave_comes_is_handed_back() -> None:
    async def main() -> None:
        store = Slow()
        rig = Rig(double, store=store)
        id = await rig.enqueue("double", 1)
        await rig.worker.start()
        await store.is_asked.wait()
        leaving = asyncio.create_task(rig.worker.stop(lambda: 20.0))
        await asyncio.sleep(0)
        store.gate.set()
        await leaving
        info = await rig.info(id)
        assert (info.state, info.attempts, info.crashes) == (State.AVAILABLE, 0, 0)

    run(main())


class Away(MemoryStore):
    """A store that cannot be reached for a while."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.is_away = False
        self.tries = 0

    def _check(self) -> None:
        self.tries += 1
        if self.is_away:
            raise self.error

    async def claim(self, claim: Claim) -> list[Claimed]:
        self._check()
        return await super().claim(claim)

    async def finish(
        self, outcomes: Any, claim: Claim | None = None
    ) -> tuple[list[bool], list[Claimed]]:
        self._check()
        return await super().finish(outcomes, claim)


@pytest.mark.parametrize("error", [StoreUnavailable("x"), StoreError("x")])
def test_results_are_stored_when_the_store_is_back(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage, "FIRST_PAUSE", 0.0)

    async def main() -> None:
        gate = asyncio.Event()

        async def work() -> str:
            await gate.wait()
            return "done"

        store = Away(error)
        rig = Rig(work, store=store)
        id = await rig.enqueue("work")
        async with rig.running():
            await rig.until(id, State.RUNNING)
            store.is_away = True
            before = store.tries
            gate.set()
            async with asyncio.timeout(30):
                while store.tries < before + 3:
                    await asyncio.sleep(0)
            store.is_away = False
            assert (await rig.until(id, State.COMPLETED)).result == b'"done"'

    run(main())


def test_an_outcome_with_an_old_token_is_told_and_costs_nothing_else() -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def work() -> None:
            await gate.wait()

        rig = Rig(work, concurrency=1)
        id = await rig.enqueue("work")
        async with rig.running():
            await rig.until(id, State.RUNNING)
            await rig.store.release([ME.key], "test")
            claim = Claim(ANOTHER, ("work",), ("default",), 1, 30.0)
            (other,) = await rig.store.claim(claim)
            gate.set()
            again = await rig.enqueue("work")
            await rig.until(again, State.COMPLETED)
            info = await rig.info(id)
            assert (info.state, info.token) == (State.RUNNING, other.token)

    run(main())


def test_nothing_is_claimed_once_the_worker_leaves() -> None:
    async def main() -> None:
        rig = Rig(double)
        async with rig.running():
            ...
        assert (await rig.info(await rig.enqueue("double", 1))).state is State.AVAILABLE

    run(main())
