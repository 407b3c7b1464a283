"""Addresses to listen on: read from text, written back in one canonical form."""

import ipaddress
import re
from dataclasses import dataclass, replace

from clusterd.core.errors import ConfigError

ALLOWED = (
    "HOST:PORT, [IPV6]:PORT, unix:PATH[,mode=OCTAL][,owner=USER][,group=GROUP], fd:NUMBER or "
    "fd:NAME"
)
NO_TLS = ",tls=off"
MODE = 0o660  # a Unix socket's, unless told: the owner and its group, say the proxy's
LONGEST_PATH = 107  # bytes that fit sun_path beside its NUL, unix(7)
PASSED = re.compile(r"(?=.*[^0-9])[A-Za-z0-9._@-]{1,255}", re.ASCII)  # FileDescriptorName=
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?"  # of a user or a group, useradd(8), or its number
OPTIONS = {"mode": r"0?o?[0-7]{3}", "owner": NAME, "group": NAME}  # of a Unix socket
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tcp:
    """A host, as number or name, and a port; port 0 lets the kernel choose."""

    host: str
    port: int
    tls: bool = True  # where there is a certificate

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + ("" if self.tls else NO_TLS)


@dataclass(frozen=True, slots=True)
class Unix:
    """A socket file and the permissions it gets. Without an owner or a group it has ours."""

    path: str
    mode: int = MODE
    owner: str = ""  # a name or a number
    group: str = ""

    def __str__(self) -> str:
        mode = "" if self.mode == MODE else f"{self.mode:o}"
        options = {"mode": mode, "owner": self.owner, "group": self.group}
        given = (f",{name}={value}" for name, value in options.items() if value)
        return f"unix:{self.path}{''.join(given)}"


@dataclass(frozen=True, slots=True)
class Fd:
    """A listening socket that we were started with, or by a name all that have it."""

    number: int = -1
    tls: bool = True  # where there is a certificate
    name: str = ""  # as systemd's FileDescriptorName= says

    def __str__(self) -> str:
        return f"fd:{self.name or self.number}" + ("" if self.tls else NO_TLS)


Address = Tcp | Unix | Fd


def is_name(text: str) -> bool:
    """Can a descriptor be told by this name?"""
    return PASSED.fullmatch(text) is not None


def without_option(address: Address) -> str:
    """Where it is, whatever is spoken there and whoever may connect."""
    if isinstance(address, Unix):
        return str(Unix(address.path))
    return str(replace(address, tls=True))


def parse_bind(text: str) -> Address:
    """The address that a text means; raises ConfigError."""
    text = text.strip()
    if text.startswith("unix:"):
        return _unix(text)
    place, tls = _option(text)
    if place.startswith("fd:"):
        which = place.removeprefix("fd:")
        if _digits(which):
            return Fd(int(which), tls)
        if not is_name(which):
            raise ConfigError(
                f"{text!r} is no address: after fd: comes a descriptor's number or name"
            )
        return Fd(-1, tls, which)
    return replace(_tcp(place), tls=tls)


def _option(text: str) -> tuple[str, bool]:
    """The address without its option, and whether it speaks TLS."""
    place, comma, option = text.partition(",")
    if comma and option not in ("tls=off", "tls=on"):
        raise ConfigError(f"{text!r} is no address: the only option of a port is ,tls=off")
    return place, option != "tls=off"


def _unix(text: str) -> Unix:
    path, *options = text.removeprefix("unix:").split(",")
    given: dict[str, str] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key in given or not re.fullmatch(OPTIONS.get(key, r"\b\B"), value, re.ASCII):
            raise ConfigError(
                f"{text!r} is no address: after the path may come ,mode= and e.g. 660, ,owner= "
                "and a user, ,group= and a group"
            )
        given[key] = value
    if not path or "\0" in path or path.startswith("@"):
        raise ConfigError(f"{text!r} is no address: after unix: comes the path of a file")
    if (length := len(path.encode("utf-8", "surrogateescape"))) > LONGEST_PATH:
        raise ConfigError(
            f"the path of {text!r} has {length} bytes, and a Unix socket's has at most "
            f"{LONGEST_PATH}"
        )
    mode = int(given["mode"][-3:], 8) if "mode" in given else MODE
    return Unix(path, mode, given.get("owner", ""), given.get("group", ""))


def _tcp(text: str) -> Tcp:
    host, colon, port = text.rpartition(":")
    if not colon and _digits(text):
        host, port = "127.0.0.1", text
    elif not colon:
        raise ConfigError(f"{text!r} is no address: the port is missing ({ALLOWED})")
    elif not host:
        host = "0.0.0.0"
    if "//" in text:
        raise ConfigError(f"{text!r} is a URL, and an address is wanted: {ALLOWED}")
    if not _digits(port) or int(port) > 65535:
        raise ConfigError(f"{text!r} is no address: a port is a number from 0 to 65535")
    return Tcp(_host(host, text), int(port))


def _host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ConfigError(f"{text!r} is no address: {host} is no IPv6 address") from None
    if ":" in host:
        raise ConfigError(
            f"{text!r} is no address: write IPv6 as [{host}]:{text.rpartition(':')[2]}"
        )
    if not HOST.fullmatch(host):
        raise ConfigError(f"{text!r} is no address: {host!r} is no host ({ALLOWED})")
    return host


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
