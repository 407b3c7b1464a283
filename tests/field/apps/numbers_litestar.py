"""Computes with pyarrow, and logs through Litestar's default queue."""

import os

import pyarrow
import pyarrow.compute
from litestar import Litestar, Request, get

TABLE = pyarrow.array(range(100))


@get("/{number:int}", sync_to_thread=False)
def total(number: int, request: Request) -> str:
    for _ in range(20):  # big pieces, which jemalloc's thread gives back to the system
        pyarrow.array(range(10_000))
    request.logger.info("asked for %d", number)
    return str(pyarrow.compute.sum(TABLE))


app = Litestar([total])
if os.environ.get("QUIET") is None:
    app.logger.info("imported")
