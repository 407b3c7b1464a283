"""What FastAPI has of its own: validation, dependencies with an end, functions on threads."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conformance.serving import Server, serving


@pytest.fixture(scope="module", params=["fastapi"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """FastAPI alone."""
    with serving(tmp_path_factory.mktemp("alone"), f"with_{request.param}:app") as running:
        yield running


def test_a_valid_order_is_taken(client: httpx.Client) -> None:
    """A body that fits its model comes back as it."""
    response = client.post("/orders", json={"name": "tea", "count": 3})
    assert (response.status_code, response.json()) == (201, {"name": "tea", "count": 3})


@pytest.mark.parametrize(
    "body", ['{"name": "", "count": 3}', '{"name": "tea"}', '{"name": "tea", "count": 11}', "{"]
)
def test_an_invalid_order_is_refused(client: httpx.Client, body: str) -> None:
    """A body that does not fit is the client's fault, and says where."""
    response = client.post("/orders", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "body"


def test_a_dependency_is_closed_after_its_request(client: httpx.Client, server: Server) -> None:
    """What a dependency opens for a request, it closes when the request is over."""
    answer = client.get("/whoami", headers={"Authorization": "Bearer ada"})
    assert answer.json() == {"name": "ada"}
    assert server.told() == "dependency closed"


def test_functions_run_on_threads(client: httpx.Client) -> None:
    """The framework's thread pool works in a forked worker."""
    assert client.get("/blocking").text == "from a thread"


def test_lifespan_state_reaches_requests(client: httpx.Client) -> None:
    """What the app's lifespan yields is in every request's state."""
    assert client.get("/state").json() == {"answer": 42}


def test_a_background_task_runs_after_the_answer(client: httpx.Client, server: Server) -> None:
    """The answer does not wait for it, and it is not lost."""
    assert client.post("/later").status_code == 202
    assert server.told() == "done"


def test_the_schema_is_served(client: httpx.Client) -> None:
    """A large generated answer arrives as JSON."""
    assert "/orders" in client.get("/openapi.json").json()["paths"]
