"""One server a framework, shared by all tests of a file; a fresh client for each test."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conformance.serving import Server, serving

FRAMEWORKS = (
    "starlette",
    "fastapi",
    "django",
    "litestar",
    "quart",
    "flask",
    "django_wsgi",
    "falcon",
)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The framework's app on two workers."""
    folder = tmp_path_factory.mktemp(request.param)
    with serving(folder, f"with_{request.param}:app") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """An HTTP/1.1 client that keeps its connections."""
    with httpx.Client(base_url=server.url, timeout=30) as session:
        yield session
