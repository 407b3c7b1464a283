"""The API of jobs for real: enqueued by requests and by a script, run by job workers."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.support.server import LIMIT, ROOT, running

SETTINGS = """
app = "shop:{app}"
interface = "{interface}"
workers = 2
min_ready = 0

[jobs]
app = "shop:jobs"
store = "sqlite:queue/jobs.sqlite3"
"""

SHOP = """
import os
from dataclasses import dataclass
from uuid import UUID
from clusterd.jobs import Discard, JobFailed, Jobs, current_job

jobs = Jobs()

@dataclass
class Order:
    id: UUID
    pages: int

@jobs.job(queue="print")
def double(order: Order) -> Order:
    current_job().log(f"printing {order.pages}")
    return Order(order.id, 2 * order.pages)

@jobs.job
async def where() -> int:
    return os.getpid()

@jobs.job
async def refuse() -> None:
    raise Discard("no such printer")

ID = UUID(int=7)

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    done = await (await double.aenqueue(Order(ID, 21))).aresult(timeout=30)
    pid = await (await where.aenqueue()).aresult(timeout=30)
    body = f"{done} {pid != os.getpid()}".encode()
    length = str(len(body)).encode()
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    await send(head)
    await send({"type": "http.response.body", "body": body})

def wsgi(environ, start_response):
    handles = jobs.enqueue_many([double.call(Order(ID, n)) for n in range(3)])
    pages = [handle.result(timeout=30).pages for handle in handles]
    pid = where.enqueue().result(timeout=30)
    try:
        refuse.enqueue().result(timeout=30)
    except JobFailed as error:
        body = f"{pages} {pid != os.getpid()} {error}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

SCRIPT = """
from shop import ID, Order, double
handle = double.enqueue(Order(ID, 5))
print(handle.result(timeout=30))
print([event.text for event in handle.events() if event.event == "log"])
"""


def write(place: Path, interface: str, shop: str = SHOP) -> None:
    (place / "shop.py").write_text(textwrap.dedent(shop))
    (place / "clusterd.toml").write_text(SETTINGS.format(app=interface, interface=interface))


def test_requests_and_scripts_enqueue_and_wait_for_results(tmp_path: Path) -> None:
    write(tmp_path, "asgi")
    with running(tmp_path, "", "--app-dir", str(tmp_path)) as server:
        server.ready()
        order = "Order(id=UUID('00000000-0000-0000-0000-000000000007'), pages={})"
        assert server.get() == f"{order.format(42)} True"
        # A script in a directory below finds the store of its cluster, and wakes its job workers.
        (tmp_path / "scripts").mkdir()
        script = tmp_path / "scripts/once.py"
        script.write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, script],
            cwd=script.parent,
            env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.stdout.splitlines() == [order.format(10), "['printing 5']"], done.stderr
        assert server.stop() == 0, server.history()


def test_a_plain_application_enqueues_in_its_threads(tmp_path: Path) -> None:
    write(tmp_path, "wsgi")
    with running(tmp_path, "", "--app-dir", str(tmp_path)) as server:
        server.ready()
        said = server.get()
        assert said.startswith("[0, 2, 4] True the job ")
        assert said.endswith("(shop.refuse) failed: Discard: no such printer")
        assert server.stop() == 0, server.history()


def test_an_application_that_enqueues_while_it_is_imported_is_turned_back(tmp_path: Path) -> None:
    """Once per worker, once per reload, and with a connection that all workers would share."""
    write(tmp_path, "wsgi", SHOP + "\nwhere.enqueue()\n")
    with running(tmp_path, "", "--app-dir", str(tmp_path)) as server:
        assert server.process.wait(LIMIT) == 3
        [failed] = re.findall(r'"reason": "(importing shop failed: .*?)"', server.log())
        assert "jobs cannot be enqueued while the application is being imported" in failed
        assert not (tmp_path / "queue").exists()
