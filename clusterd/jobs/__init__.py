"""Background jobs: the API, their life, stores, job workers, the scheduler.

May import ipc, kernel, config and core. What applications import is here.
"""

from clusterd.jobs.api import Jobs, job
from clusterd.jobs.current import CurrentJob, current_job
from clusterd.jobs.errors import (
    Discard,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobLost,
    JobNotFound,
    JobTimeout,
    Retry,
)
from clusterd.jobs.handle import Handle
from clusterd.jobs.job import Job
from clusterd.jobs.options import constant, exponential, linear
from clusterd.jobs.records import Attempt, JobInfo
from clusterd.jobs.states import State
from clusterd.jobs.store import StoreError, StoreUnavailable

__all__ = [
    "Attempt",
    "CurrentJob",
    "Discard",
    "Handle",
    "Job",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "JobInfo",
    "JobLost",
    "JobNotFound",
    "JobTimeout",
    "Jobs",
    "Retry",
    "State",
    "StoreError",
    "StoreUnavailable",
    "constant",
    "current_job",
    "exponential",
    "job",
    "linear",
]
