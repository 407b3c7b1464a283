"""A Starlette application that runs its Alembic migrations in lifespan, as many do."""

import contextlib
import os

from alembic import command
from alembic.config import Config
from starlette.applications import Starlette
from starlette.routing import Route


@contextlib.asynccontextmanager
async def lifespan(app):
    command.upgrade(Config(os.environ["ALEMBIC_INI"]), "head")
    yield


async def boom(request):
    raise RuntimeError("a bug of the application")


app = Starlette(routes=[Route("/boom", boom)], lifespan=lifespan)
