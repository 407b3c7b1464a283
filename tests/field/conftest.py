"""Mark every test here as `field`, and lend each the servers that applications talk to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import stores

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Import nothing from here unless asked for: the libraries are those of the extra `field`."""
    expression = str(config.getoption("markexpr"))
    return None if "field" in expression.replace("not field", "") else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the marker by directory, so that no test can forget it."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.field)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server: its `HOST:PORT`; user and database are both `postgres`."""
    with stores.postgres(tmp_path_factory.mktemp("postgres")) as address:
        yield address


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server: its `redis://HOST:PORT`."""
    with stores.redis(tmp_path_factory.mktemp("redis")) as url:
        yield url
