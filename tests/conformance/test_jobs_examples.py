"""The examples of jobs, as they are: a request enqueues a job, and its result can be seen."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.conformance.serving import REPOSITORY
from tests.support.server import LIMIT, Server, running

EXAMPLES = REPOSITORY / "examples"
# The control socket has the cluster's name: `Server` looks for this one.
NAME = "clusterd"
OPTIONS = ("--app-dir", ".", "-b", "127.0.0.1:0", "--name", NAME)


def poll(client: httpx.Client, path: str, key: str) -> Any:
    """Ask until a job has written something."""
    while not (found := client.get(path).raise_for_status().json())[key]:
        pass
    return found


def client_of(server: Server) -> httpx.Client:
    (address,) = server.event("ready")["urls"]
    return httpx.Client(base_url=address, timeout=LIMIT)


def listed(place: Path) -> str:
    """Return what `clusterd jobs ls` prints in the example's directory."""
    return subprocess.run(
        [sys.executable, "-m", "clusterd.cli.main", "jobs", "ls"],
        cwd=place,
        env={
            "PYTHONPATH": str(REPOSITORY),
            "XDG_STATE_HOME": str(place / "state"),
            "CLUSTERD_NAME": NAME,
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_shop_of_fastapi(tmp_path: Path) -> None:
    place = shutil.copytree(EXAMPLES / "jobs-fastapi", tmp_path / "shop")
    with running(place, "", *OPTIONS) as server:
        with client_of(server) as client:
            order = {"to": "ann@example.com", "items": ["tea"]}
            response = client.post("/orders", json=order)
            assert response.status_code == 202
            id = response.json()["id"]
            found = poll(client, f"/orders/{id}", "mail")
            mail = "To: ann@example.com\n\nYour tea will be with you soon."
            assert found == {"state": "completed", "mail": mail}
            assert client.get("/orders/none").status_code == 404
        assert id in listed(place)
        assert server.stop() == 0


def test_the_shop_of_django(tmp_path: Path) -> None:
    place = shutil.copytree(EXAMPLES / "jobs-django", tmp_path / "shop")
    command = [sys.executable, "manage.py", "migrate", "--run-syncdb"]
    subprocess.run(
        command, cwd=place, env={"PYTHONPATH": str(REPOSITORY)}, check=True, capture_output=True
    )
    with running(place, "", *OPTIONS) as server:
        with client_of(server) as client:
            response = client.post("/orders", data={"to": "ann@example.com"})
            assert response.status_code == 202
            order, job = response.json()["order"], response.json()["job"]
            found = poll(client, f"/orders/{order}", "mail")
            mail = f"To: ann@example.com\n\nYour order {order} is on its way."
            assert found == {"to": "ann@example.com", "mail": mail}
        assert job in listed(place)
        assert server.stop() == 0
