"""Find the store that a URL names."""

import contextlib
import importlib

from clusterd.jobs.store import Store, StoreError

# scheme → module with a function `create(url) -> Store`, and what to do where it cannot be imported
_REDIS = ("clusterd.jobs.redis_store", "Install clusterd[redis].")
_SCHEMES = {
    "sqlite": ("clusterd.jobs.sqlite", "This Python was built without its module sqlite3."),
    "redis": _REDIS,
    "rediss": _REDIS,  # with TLS
    "unix": _REDIS,  # a socket of Redis
}


def open_store(url: str) -> Store:
    """Return the store of a URL, not yet connected. Raises StoreError.

    Stores are imported when they are needed: the libraries of the others need not be installed.
    """
    scheme, separator, _ = url.partition(":")
    if not separator or scheme not in _SCHEMES:
        raise StoreError(
            f"not a valid job store: {scheme + separator}…, expected "
            + " or ".join(f"{known}:…" for known in _SCHEMES),
            "Write sqlite:/path/to/jobs.sqlite3 or redis://HOST.",
        )
    module, remedy = _SCHEMES[scheme]
    try:
        create = importlib.import_module(module).create
    except ImportError as error:
        raise StoreError(f"the job store {scheme}: cannot be used: {error}", remedy) from error
    store: Store = create(url)
    return store


def load(url: str) -> None:
    """Import what the store of a URL needs. What is wrong with it is said where it is opened."""
    module, _ = _SCHEMES.get(url.partition(":")[0], ("", ""))
    if module:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
