"""TLS as a client of the benchmark speaks it: one context for all connections of a process."""

import ssl

from clusterd.bench.load import Target
from clusterd.core.errors import ConfigError


def client_context(target: Target) -> ssl.SSLContext | None:
    """How to connect, or None where that is in plain text. Raises ConfigError for a file of
    authorities that cannot be used.

    Only HTTP/1.1 is offered. Connections resume no sessions: as new ones, each costs the server a
    whole handshake, which is what `fresh` connections are to show.
    """
    if not target.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=target.ca_file or None)
    except ssl.SSLError:
        raise ConfigError(f"{target.ca_file} holds no certificates (PEM)") from None
    except OSError as error:
        raise ConfigError(f"{target.ca_file} cannot be read: {error.strerror}") from None
    if not target.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
