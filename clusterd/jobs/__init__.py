"""Background jobs: the API, their life, stores, job workers, the scheduler.

May import ipc, kernel, config and core. What applications import is here.
"""
