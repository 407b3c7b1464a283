#!/usr/bin/env bash
# Software: rq 3.0.0, huey 3.5.4, saq 0.26.4, dramatiq 2.2.1, celery 5.7.0, arq 0.28.0,
#           taskiq 0.13.0 with taskiq-redis 1.2.4, each with its own worker and Debian's redis-server
#           7.0.15, Python 3.11 or newer.
# Guess:    a job whose function has run but whose result cannot be stored fails, with that error, and
#           is run again where retries are asked for. A job whose function the worker does not know,
#           as in a rolling deployment, is tried again, or at least fails. A caller that waits for
#           either gets an exception.
# Seen:     saq alone does so, and there the next run waits for the sweep. arq and celery report both
#           failures and try neither again. In rq the first job is successful, with the text
#           "Unserializable return value" as its value. With huey, dramatiq and taskiq a caller is
#           never informed of either: the worker logs it, and stores nothing. The first job
#           ran once. Two retries are asked for everywhere, except in arq, celery and taskiq for the
#           second job: they have the number of retries with the function.
set -euo pipefail
command -v redis-server >/dev/null || { echo "redis-server is not installed"; exit 77; }
place=$(mktemp -d)
server=
trap 'if [[ $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" || true; fi; rm -rf "$place"' EXIT
cd "$place"
for venv in most arq taskiq; do python3 -m venv "$venv"; done
install=(pip install --quiet --disable-pip-version-check)
most/bin/python -m "${install[@]}" rq==3.0.0 huey==3.5.4 saq==0.26.4 dramatiq==2.2.1 celery==5.7.0 \
    redis==7.4.1 kombu==5.7.0 billiard==4.3.2 croniter==7.0.0 packaging==26.4
arq/bin/python -m "${install[@]}" arq==0.28.0 redis==5.3.1
taskiq/bin/python -m "${install[@]}" taskiq==0.13.0 taskiq-redis==1.2.4 redis==8.1.0
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis-server --bind 127.0.0.1 --port "$port" --save "" --dir "$place" >/dev/null &
server=$!
cat >queues.py <<'PY'
"""Run two jobs with one library: its own worker, its own way to wait for a result."""

import asyncio
import sys
import threading

LIBRARY, URL = sys.argv[1:]
WAIT = 5  # seconds; all that ends at all has ended after one


def unstorable(*_):
    """Do some work, and return what neither JSON nor pickle can store."""
    with open("runs", "a") as runs:
        runs.write("x")
    return threading.Lock()


async def unstorable_async(*_):
    return unstorable()


async def with_arq():
    from arq import Worker, func
    from arq.connections import RedisSettings, create_pool

    settings = RedisSettings.from_dsn(URL)
    pool = await create_pool(settings)
    jobs = [await pool.enqueue_job(name) for name in ("unstorable", "missing")]
    known = func(unstorable_async, name="unstorable", max_tries=3)
    await Worker([known], redis_settings=settings, burst=True, poll_delay=0.1).async_run()
    for job in jobs:
        info = await job.result_info()
        yield f"{'success' if info.success else 'failure'}: {info.result}"


async def with_celery():
    from celery import Celery
    from celery.contrib.testing.worker import start_worker
    from celery.exceptions import TimeoutError as NoResult

    app = Celery(broker=URL, backend=URL)
    app.task(unstorable, name="unstorable", autoretry_for=(Exception,), max_retries=2)
    results = [app.send_task(name) for name in ("unstorable", "missing")]
    with start_worker(app, perform_ping_check=False, loglevel="CRITICAL"):
        for result in results:
            try:
                result.get(timeout=WAIT)
            except NoResult:
                yield f"no result, status {result.status}"
            except Exception as error:
                yield f"failure: {type(error).__name__}"


async def with_rq():
    from redis import Redis
    from rq import Queue, Retry, SimpleWorker

    queue = Queue(connection=Redis.from_url(URL))
    names = "queues.unstorable", "queues.missing"
    jobs = [queue.enqueue(name, retry=Retry(max=2)) for name in names]
    SimpleWorker([queue], connection=queue.connection).work(burst=True, logging_level="CRITICAL")
    for job in jobs:
        result = job.latest_result()
        yield f"{result.type.name.lower()}: {result.return_value}"


async def with_saq():
    from saq import Queue, Worker

    queue = Queue.from_url(URL)
    await queue.connect()
    names = "unstorable", "missing"
    jobs = [await queue.enqueue(name, retries=3, timeout=1) for name in names]
    worker = Worker(queue, functions=[("unstorable", unstorable_async)], timers={"sweep": 1})
    task = asyncio.create_task(worker.start())
    for job in jobs:
        try:
            await job.refresh(until_complete=6 * WAIT)
        except TimeoutError:
            await job.refresh()
        error = (job.error or "no error").splitlines()[-1].partition(":")[0]
        yield f"{job.status.value}, attempts {job.attempts}: {error}"
    await worker.stop()
    await task


async def with_huey():
    from huey import RedisHuey
    from huey.exceptions import HueyException

    producer, consumer = RedisHuey("jobs", url=URL), RedisHuey("jobs", url=URL)
    results = [consumer.task(name="unstorable", retries=2)(unstorable)()]
    results.append(producer.task(name="missing", retries=2)(unstorable)())
    running = consumer.create_consumer(workers=1, periodic=False)
    running.start()
    for result in results:
        try:
            yield f"success: {result.get(blocking=True, timeout=WAIT)}"
        except HueyException as error:
            yield type(error).__name__
    running.stop(graceful=True)


async def with_dramatiq():
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import ResultError, Results
    from dramatiq.results.backends import RedisBackend

    broker = RedisBroker(url=URL)
    broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
    dramatiq.set_broker(broker)
    short = {"min_backoff": 1, "max_backoff": 2, "max_retries": 2}
    messages = [dramatiq.actor(unstorable, actor_name="unstorable", **short).send()]
    missing = dramatiq.Message("default", "missing", (), {}, dict(short))
    messages.append(broker.enqueue(missing))
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()
    broker.join("default")
    for message in messages:
        try:
            yield f"success: {message.get_result(block=True, timeout=1000 * WAIT)}"
        except ResultError as error:
            yield type(error).__name__
    worker.stop()


async def with_taskiq():
    from taskiq import SimpleRetryMiddleware, TaskiqResultTimeoutError
    from taskiq.api import run_receiver_task
    from taskiq.kicker import AsyncKicker
    from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

    broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))
    broker = broker.with_middlewares(SimpleRetryMiddleware(default_retry_count=3))
    broker.register_task(unstorable_async, "unstorable", retry_on_error=True)
    await broker.startup()
    tasks = [await AsyncKicker(name, broker, {}).kiq() for name in ("unstorable", "missing")]
    running = asyncio.create_task(run_receiver_task(broker))
    for task in tasks:
        try:
            result = await task.wait_result(timeout=WAIT)
            yield f"{'failure' if result.is_err else 'success'}: {result.return_value}"
        except TaskiqResultTimeoutError as error:
            yield type(error).__name__
    running.cancel()
    await broker.shutdown()


async def main():
    states = [state async for state in globals()[f"with_{LIBRARY}"]()]
    runs = len(open("runs").read())
    print(f"{LIBRARY}, result not storable ({runs} of 3 runs): {states[0]}")
    print(f"{LIBRARY}, function not known: {states[1]}")


if __name__ == "__main__":
    asyncio.run(main())
PY
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do kill -0 "$server"; done
database=0
seen=$(for library in arq celery rq huey dramatiq taskiq saq; do
    venv=most
    if [[ -d $library ]]; then venv=$library; fi
    rm -f runs
    "$venv/bin/python" queues.py "$library" "redis://127.0.0.1:$port/$((database++))" 2>log ||
        { cat log >&2; exit 1; }
done)
expected="arq, result not storable (1 of 3 runs): failure: unable to serialize result
arq, function not known: failure: function 'missing' not found
celery, result not storable (1 of 3 runs): failure: EncodeError
celery, function not known: failure: NotRegistered
rq, result not storable (1 of 3 runs): successful: Unserializable return value
rq, function not known: failed: None
huey, result not storable (1 of 3 runs): ResultTimeout
huey, function not known: ResultTimeout
dramatiq, result not storable (1 of 3 runs): ResultTimeout
dramatiq, function not known: ResultTimeout
taskiq, result not storable (1 of 3 runs): TaskiqResultTimeoutError
taskiq, function not known: TaskiqResultTimeoutError
saq, result not storable (3 of 3 runs): failed, attempts 3: TypeError
saq, function not known: failed, attempts 3: KeyError"
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
