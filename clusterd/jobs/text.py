"""What stores keep of texts that may be long, or no valid Unicode."""


def tail(text: str, size: int) -> str:
    """Return the end of a text, at most so many bytes: the last line of a traceback says most.

    What cannot be encoded (surrogates, as in the name of a file that is not UTF-8) is replaced.
    """
    return text.encode("utf-8", "replace")[-size:].decode("utf-8", "ignore")


def start(text: str, size: int) -> str:
    """Return the beginning of a text, at most so many bytes, and valid."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
