"""URLs of stores: as they may be shown, and with paths that do not depend on the directory."""

import os


def without_password(url: str) -> str:
    """Return a URL without the password of its user."""
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    if not at:
        return url
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}"


def absolute_file(url: str, here: str) -> str:
    """Return `scheme:PATH[?options]` with its path made absolute, as seen from a directory."""
    scheme, _, rest = url.partition(":")
    path, question, options = rest.partition("?")
    # As in sqlite:///var/lib/x, where URLs of databases have three slashes.
    path = "/" + path.lstrip("/") if path.startswith("//") else os.path.expanduser(path)
    return f"{scheme}:{os.path.normpath(os.path.join(here, path))}{question}{options}"
