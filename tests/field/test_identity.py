"""Identities of libraries that are meant for one process: each row of `zygote.identities`."""

import asyncio
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import socketio

from tests.support.server import LIMIT, serving

APPS = Path(__file__).parent / "apps"
FIND = """
    import dataclasses, json, sys
    from clusterd.config.serving import AppSettings
    from clusterd.zygote.importing import build
    image = build(AppSettings(app="shop:application", interface="asgi"))
    found = [vars_ for each in image.identities if "what" in (vars_ := dataclasses.asdict(each))]
    print(json.dumps([[each["what"], each["where"]] for each in found]), file=sys.__stdout__)
    sys.__stdout__.flush()
    import os; os._exit(0)
"""


def identities(place: Path, code: str) -> list[tuple[str, str]]:
    """What is found of an application whose module `shop` has this code: (what, where)."""
    code = textwrap.dedent(code) + "\nasync def application(scope, receive, send): pass\n"
    (place / "shop.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FIND)],
        cwd=place,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [(what, where) for what, where in json.loads(done.stdout.splitlines()[-1])]


SOCKETIO = "a Socket.IO manager"
LAYER = "a channel layer of channels_redis"
DJANGO = """
    from django.conf import settings
    settings.configure(CHANNEL_LAYERS={"default": {
        "BACKEND": "channels_redis.%s", "CONFIG": {"hosts": ["redis://127.0.0.1"]}}})
    from channels.layers import get_channel_layer
    layer = get_channel_layer()
"""
EACH = {
    "python-socketio, asyncio": (
        "import socketio\nmanager = socketio.AsyncRedisManager('redis://127.0.0.1')",
        [(SOCKETIO, "shop.py:2")],
    ),
    "python-socketio, threads": (
        "import socketio\nmanager = socketio.RedisManager('redis://127.0.0.1')",
        [(SOCKETIO, "shop.py:2")],
    ),
    "python-socketio, only for emitting": (
        "import socketio\nout = socketio.RedisManager('redis://127.0.0.1', write_only=True)",
        [],
    ),
    "Flask-SocketIO": (
        """
        import flask, flask_socketio
        app = flask.Flask(__name__)
        sio = flask_socketio.SocketIO(
            app, message_queue="redis://127.0.0.1", async_mode="threading"
        )
        """,
        [(SOCKETIO, "shop.py:4")],
    ),
    "channels_redis": (DJANGO % "core.RedisChannelLayer", [(LAYER, "shop.py:6")]),
    "channels_redis, pub/sub": (DJANGO % "pubsub.RedisPubSubChannelLayer", []),
    "Celery": ("import celery\ncelery.Celery(broker='memory://')", []),
    "Celery, asked": (
        "import celery\napp = celery.Celery(broker='memory://')\napp.oid",
        [("a Celery application's oid", "")],
    ),
    "Celery, rpc results": (
        "import celery\napp = celery.Celery(broker='memory://', backend='rpc://')\n"
        "app.AsyncResult('1').backend.oid",
        [("a Celery application's oid", "")],
    ),
    "OpenTelemetry, which makes it anew": (
        "from opentelemetry.sdk.trace import TracerProvider\nprovider = TracerProvider()",
        [],
    ),
    "OpenTelemetry, an id of the application's": (
        """
        from uuid import uuid4
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        mine = Resource.create({"service.instance.id": str(uuid4())})
        provider = TracerProvider(resource=mine)
        """,
        [("a value of uuid.uuid4()", "shop.py:5")],
    ),
    "sentry-sdk": ("import sentry_sdk\nsentry_sdk.init('http://a@127.0.0.1/1')", []),
    "Litestar": (
        "import litestar\n@litestar.get('/')\nasync def index() -> str: return ''\n"
        "app = litestar.Litestar([index])",
        [],
    ),
    "FastAPI and SQLAlchemy": (
        """
        import uuid, fastapi, pydantic, sqlalchemy
        from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
        class Base(DeclarativeBase): pass
        class Item(Base):
            __tablename__ = "item"
            id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
        class Order(pydantic.BaseModel):
            id: uuid.UUID = pydantic.Field(default_factory=uuid.uuid4)
        app = fastapi.FastAPI()
        """,
        [],
    ),
    "pydantic, made while importing": (
        "import uuid, pydantic\nclass Node(pydantic.BaseModel):\n"
        "    id: uuid.UUID = pydantic.Field(default_factory=uuid.uuid4)\nnode = Node()",
        [("a value of uuid.uuid4()", "shop.py:4")],
    ),
}


@pytest.mark.parametrize(("code", "wanted"), EACH.values(), ids=EACH)
def test_an_identity_of_a_library_is_found(
    tmp_path: Path, code: str, wanted: list[tuple[str, str]]
) -> None:
    assert identities(tmp_path, code) == wanted


async def hear(url: str, count: int) -> int:
    """Connect so many clients to one room, have one of them speak; how many heard it."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    clients = [socketio.AsyncClient() for _ in range(count)]
    workers = set()
    for client in clients:
        client.on("said", heard.put)
        await client.connect(url, transports=["websocket"])
        workers.add(await client.call("worker"))
    assert len(workers) > 1, "clients of several workers meet in the room"
    # Each worker has subscribed by the time that its first message came over the bus.
    got = 0
    await clients[0].emit("say", "hello")
    async with asyncio.timeout(LIMIT):
        while got < count:
            await heard.get()
            got += 1
    for client in clients:
        await client.disconnect()
    return got


def test_a_message_reaches_all_clients_of_a_room(tmp_path: Path, redis: str) -> None:
    options: tuple[Any, ...] = ("--app-dir", str(APPS))
    with serving(tmp_path, "room:app", *options, workers=4, REDIS=redis) as server:
        assert asyncio.run(hear(server.url, 12)) == 12
        assert "a Socket.IO manager (room.py:7)" in server.log()
