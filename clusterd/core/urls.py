"""URLs of stores, as they may be shown."""


def without_password(url: str) -> str:
    """Return a URL without the password of its user."""
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    if not at:
        return url
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}"
