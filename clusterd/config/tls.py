"""TLS settings that must fit one another; what is in the files is judged where they are loaded."""

from collections.abc import Mapping
from typing import Any

from clusterd.config.address import Fd, Tcp, parse_bind
from clusterd.core.errors import ConfigError

# What means nothing without a certificate. Who sets one of these believes that TLS is on.
WANTS_CERTIFICATE = ("tls_key", "tls_password_file", "tls_ca", "tls_ciphers")


def check(values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Raise ConfigError where TLS settings contradict each other."""
    certificates, keys = values["tls_cert"], values["tls_key"]
    asks = values["tls_client_cert"] != "none"
    if not certificates:
        given = [name for name in WANTS_CERTIFICATE if values[name]]
        given += ["tls_client_cert"] if asks else []
        if given:
            raise ConfigError(
                f"{origins[given[0]]}: {given[0]} means nothing without tls_cert",
                "name the certificate with --tls-cert, or leave this out",
            )
    if keys and len(keys) != len(certificates):
        raise ConfigError(
            f"{origins['tls_key']}: {_counted(keys, 'key')} for "
            f"{_counted(certificates, 'certificate')}",
            "give a key for each certificate in the same order, or none at all where the "
            "certificates' files hold them",
        )
    if asks and not values["tls_ca"]:
        raise ConfigError(
            f"{origins['tls_client_cert']}: clients' certificates cannot be checked without tls_ca"
        )
    if values["tls_ca"] and not asks:
        raise ConfigError(
            f"{origins['tls_ca']}: tls_ca is given, and no client is asked for a certificate",
            "set tls_client_cert to optional or required, or leave tls_ca out",
        )


def is_secured(address: str) -> bool:
    """Whether connections to this address (in canonical form) speak TLS where there is a
    certificate."""
    found = parse_bind(address.partition("#")[0])
    return isinstance(found, Tcp | Fd) and found.tls


def _counted(things: tuple[str, ...], noun: str) -> str:
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"
