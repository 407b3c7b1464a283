#!/usr/bin/env bash
# Software: croniter 7.0.0, pycron 3.3.0, APScheduler 3.11.3, cronsim 2.8, celery 5.7.0, rq 3.0.0,
#           arq 0.28.0, Python 3.11 or newer.
# Guess:    Debian's cron is the model (its cron(8) describes it): on the two days of a clock change
#           a daily job runs once, and a job for each half hour keeps to real time: 46 runs on the
#           day of 23 hours, 50 on the day of 25 hours.
# Seen:     of seven libraries that read cron lines in a time zone, cronsim alone does so. A daily
#           job at 02:30 runs twice in autumn with croniter (saq requires it) and APScheduler; with
#           pycron (taskiq requires it) it runs twice in autumn and not at all in spring. celery, rq
#           and arq run it once, and pay for that with a pause: the half-hourly job does not run in
#           the repeated hour, 90 minutes pass between two runs. rq uses croniter, and differs from
#           it on both counts.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check croniter==7.0.0 pycron==3.3.0 \
    APScheduler==3.11.3 cronsim==2.8 celery==5.7.0 rq==3.0.0 arq==0.28.0 tzdata==2026.6
cat >count.py <<'PY'
"""Count the runs of a job on one day; the clock is the argument of each library, not the machine's."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pycron
from apscheduler.triggers.cron import CronTrigger
from arq.cron import next_cron
from celery import Celery
from celery.schedules import crontab
from croniter import croniter
from cronsim import CronSim
from rq.cron import CronJob

ZONE = ZoneInfo("Europe/Berlin")
DAYS = {"spring": datetime(2027, 3, 28, tzinfo=ZONE), "autumn": datetime(2026, 10, 25, tzinfo=ZONE)}
JOBS = {"daily": "30 2 * * *", "half-hourly": "*/30 * * * *"}
SECOND = timedelta(seconds=1)


def at(timestamp):
    return datetime.fromtimestamp(timestamp, ZONE)


def follow(start, following):
    """Yield run after run, each asked for a moment after the one before."""
    run = following(None, at(start.timestamp() - 1))
    while True:
        yield run
        run = following(run, at(run.timestamp() + 0.01))


def each_minute(start, due):
    """Yield the minutes at which a poll finds the job due."""
    minute = start.timestamp()
    while True:
        if due(at(minute)):
            yield at(minute)
        minute += 60


def with_croniter(job, start):
    return croniter(job, at(start.timestamp() - 1)).all_next(datetime)


def with_pycron(job, start):
    return each_minute(start, lambda now: pycron.is_now(job, now))


def with_apscheduler(job, start):
    return follow(start, CronTrigger.from_crontab(job, timezone=ZONE).get_next_fire_time)


def with_cronsim(job, start):
    return CronSim(job, at(start.timestamp() - 1))


def with_celery(job, start):
    app = Celery()
    app.conf.timezone = "Europe/Berlin"
    schedule = crontab.from_string(job)
    schedule.app = app
    last = at(start.timestamp() - 1)

    def due(now):
        nonlocal last
        schedule.nowfun = lambda: now
        if schedule.is_due(last).is_due:
            last = now
            return True
        return False

    return each_minute(start, due)


def with_rq(job, start):
    cron = CronJob("default", func_name="job", cron=job)

    def following(_, now):
        cron.latest_enqueue_time = now
        return cron.get_next_enqueue_time()

    return follow(start, following)


def with_arq(job, start):
    minute, hour = job.split()[:2]
    options = {"minute": 30, "hour": int(hour)} if hour != "*" else {"minute": {0, 30}}
    return follow(start, lambda _, now: next_cron(now, second=0, **options))


def count(runs, start):
    end = (start + timedelta(days=1)).timestamp()
    return next(number for number, run in enumerate(runs) if run.timestamp() >= end)


for library in "cronsim", "croniter", "apscheduler", "pycron", "celery", "rq", "arq":
    runs = globals()[f"with_{library}"]
    counts = [
        f"{name} {' '.join(str(count(runs(job, start), start)) for start in DAYS.values())}"
        for name, job in JOBS.items()
    ]
    print(f"{library}:", ", ".join(counts))
PY
seen=$(TZ=Europe/Berlin venv/bin/python count.py)
expected='cronsim: daily 1 1, half-hourly 46 50
croniter: daily 1 2, half-hourly 46 50
apscheduler: daily 1 2, half-hourly 46 50
pycron: daily 0 2, half-hourly 46 50
celery: daily 1 1, half-hourly 46 48
rq: daily 1 1, half-hourly 46 48
arq: daily 1 1, half-hourly 46 48'
echo "$seen"
[[ $seen == "$expected" ]] || { echo "this has changed; it was:"; echo "$expected"; exit 1; }
