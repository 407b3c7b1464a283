"""Real libraries, used while an application is imported: nothing is shared that must not be."""

import http.client
import http.server
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Event, Server, running, serving

APPS = Path(__file__).parent / "apps"
ROOT = Path(__file__).parents[2]
CLIENTS, WORKERS = 12, 4
REQUESTS = int(os.environ.get("CLUSTERD_FIELD_REQUESTS", "300"))  # per application; 10000 by hand


def ask_everything(server: Server) -> list[str]:
    """Ask for numbers from 1 to 300, from 12 clients at once; return the responses that differ."""
    wrong: list[str] = []

    def client(first: int) -> None:
        connection = server.connect()
        for number in range(first, REQUESTS, CLIENTS):
            wanted = str(number % 300 + 1)
            try:
                connection.request("GET", f"/{wanted}")
                response = connection.getresponse()
                got = response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                got, connection = repr(error), server.connect()
            if got != wanted:
                wrong.append(f"{wanted}: {got[:200]}")
        connection.close()

    threads = [threading.Thread(target=client, args=(first,)) for first in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def told(server: Server) -> Event:
    """Return the one warning of an import that cannot be shared."""
    (event,) = server.find("import_per_worker")
    return event


@pytest.fixture
def backend() -> Iterator[str]:
    """Run an HTTP server that keeps connections and responds with what it was asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.path[1:].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_pool_that_an_import_filled_is_not_shared(tmp_path: Path, postgres: str) -> None:
    """FIELD A: 19 of 300 responses had another request's row, with status 200."""
    options = ("shop_sqlalchemy:app", "--app-dir", str(APPS))
    with serving(tmp_path, *options, workers=WORKERS, POSTGRES=postgres) as server:
        assert f"a connection to {postgres} (shop_sqlalchemy.py" in told(server)["reason"]
        assert ask_everything(server) == []


def test_a_redis_client_that_was_pinged_is_not_shared(tmp_path: Path, redis: str) -> None:
    options = ("shop_redis:app", "--app-dir", str(APPS))
    with serving(tmp_path, *options, workers=WORKERS, REDIS=redis) as server:
        peer = redis.removeprefix("redis://")
        assert f"a connection to {peer} (shop_redis.py" in told(server)["reason"]
        assert ask_everything(server) == []


def test_http_clients_that_were_used_are_not_shared(tmp_path: Path, backend: str) -> None:
    options = ("shop_clients:app", "--app-dir", str(APPS))
    with serving(tmp_path, *options, workers=WORKERS, BACKEND=backend) as server:
        peer = backend.removeprefix("http://")
        assert told(server)["reason"].count(f"a connection to {peer} (") >= 1
        assert ask_everything(server) == []


def test_a_sqlite_handle_is_not_shared(tmp_path: Path) -> None:
    path = str(tmp_path / "shop.db")
    options = ("shop_sqlite:app", "--app-dir", str(APPS))
    with serving(tmp_path, *options, workers=WORKERS, SQLITE=path) as server:
        assert f"the open SQLite file {path}" in told(server)["reason"]
        assert ask_everything(server) == []
    shop = sqlite3.connect(path)
    assert shop.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert shop.execute("SELECT count(*) FROM seen").fetchone() == (REQUESTS,)
    shop.close()


# Runs the lines given as an import, as a zygote does, and prints what must not be forked.
IMPORT = """
import sys, warnings
warnings.simplefilter("ignore")
from clusterd.core.errors import AppError
from clusterd.config.serving import AppSettings
from clusterd.kernel import resources
from clusterd.zygote import inventory
from clusterd.zygote.importing import build
earlier = resources.read()
try:
    build(AppSettings(app="shop:app", app_dir=sys.argv[1]))
    print(inventory.take(earlier).reason, flush=True)
except AppError as error:
    print(error.message, flush=True)
import os
os._exit(0)
"""


def left_by(lines: str, place: Path, **env: str) -> str:
    """Return what clusterd says of an application that begins with these lines; '' for nothing."""
    (place / "shop.py").write_text(f"{lines}\nasync def app(scope, receive, send): ...\n")
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(place)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


DJANGO = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}},
)
django.setup()
from django.core.asgi import get_asgi_application
handler = get_asgi_application()
"""
SCHEDULER = """
from apscheduler.schedulers.background import BackgroundScheduler
scheduler = BackgroundScheduler()
"""
HARMLESS = {
    "numbers": """
import numpy, pandas, pyarrow, pyarrow.compute
numpy.ones((300, 300)) @ numpy.ones((300, 300))  # starts OpenBLAS's threads
pandas.DataFrame({"a": [1, 2]}).sum()
pyarrow.compute.sum(pyarrow.array([1, 2]))
""",
    "django": DJANGO,
    "clients": """
import boto3, httpx, redis, requests
from sqlalchemy import create_engine
engine = create_engine("postgresql+psycopg://postgres@127.0.0.1/shop")
cache, client, session = redis.from_url("redis://127.0.0.1"), httpx.Client(), requests.Session()
s3 = boto3.client(
    "s3", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
)
""",
    "frameworks": """
import fastapi, grpc, pydantic
from starlette.applications import Starlette
class Item(pydantic.BaseModel):
    id: int
apis = fastapi.FastAPI(), Starlette()
@apis[0].post("/")
def make(item: Item) -> Item: ...
""",
    "progress": "import tqdm; total = sum(tqdm.tqdm(range(3)))",  # as loaded models show it
    "litestar": "import litestar; api = litestar.Litestar()",
    "telemetry": """
import prometheus_client, sentry_sdk
counter = prometheus_client.Counter("a", "b")
counter.inc()
sentry_sdk.init(dsn="http://a@127.0.0.1:1/1", auto_enabling_integrations=False)
""",
    "queues": "import celery; queue = celery.Celery(broker='redis://127.0.0.1')" + SCHEDULER,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_no_false_alarm(name: str, tmp_path: Path) -> None:
    """An application whose import leaves nothing is imported once."""
    assert left_by(HARMLESS[name], tmp_path) == ""


OTEL = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter("http://127.0.0.1:1/v1/traces")))
"""
LEFT = {
    "apscheduler": (SCHEDULER + "scheduler.start()", "the thread 'APScheduler'"),
    "opentelemetry": (OTEL, "the thread 'OtelBatchSpanRecordProcessor'"),
    "grpc": (
        "import grpc; kept = grpc.insecure_channel('127.0.0.1:1')",
        "the thread 'event_engine' of cygrpc",
    ),
    "lmdb": ("import lmdb; cache = lmdb.open('cache')", "the open LMDB file"),
    "gevent": (
        "from gevent import monkey; monkey.patch_all()",
        "gevent replaced parts of the standard library (_thread.start_new_thread",
    ),
    "eventlet": (
        "import eventlet; eventlet.monkey_patch()",
        "eventlet replaced parts of the standard library (_thread.start_new_thread",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_was_left_is_named(name: str, tmp_path: Path) -> None:
    lines, wanted = LEFT[name]
    assert wanted in left_by(lines, tmp_path)


@pytest.mark.parametrize("preload", ["auto", "never"])
def test_a_monkey_patch_is_refused_with_its_name(tmp_path: Path, preload: str) -> None:
    """FIELD H: ready, the port open, and no request got a response."""
    (tmp_path / "shop.py").write_text(
        "from gevent import monkey\nmonkey.patch_all()\nfrom flask import Flask\n"
        "app = Flask(__name__)\n"
    )
    options = ("shop:app", "--app-dir", str(tmp_path), "--preload", preload)
    with running(tmp_path, *options, "-w", "1") as server:
        assert server.wait() == 3
        kind = "zygote_failed" if preload == "auto" else "worker_failed"
        assert "gevent replaced parts of the standard library" in server.find(kind)[0]["reason"]
        assert "--threads" in server.find("gave_up")[0]["remedy"]


def test_an_imported_once_application_computes_and_logs_in_its_workers(tmp_path: Path) -> None:
    """pyarrow's jemalloc starts its thread again, and Litestar's log queue is listened to."""
    options = ("numbers_litestar:app", "--app-dir", str(APPS))
    with serving(tmp_path, *options, workers=WORKERS) as server:
        assert not server.find("import_per_worker")
        (readied,) = server.find("zygote_readied")
        assert "import_per_worker" not in readied
        assert {server.get(f"/{number}") for number in range(40)} == {"4950"}
    for number in range(40):
        assert f"asked for {number}\n" in server.log()
