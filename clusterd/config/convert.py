"""Values of settings: from what people write to what rooms use, and back."""

import ipaddress
import os
import re
import shlex
from collections.abc import Callable
from typing import Any

from clusterd.config.address import parse_bind, without_option
from clusterd.config.kinds import PLURAL, Kind, Setting
from clusterd.core.errors import ConfigError
from clusterd.core.units import GIB, KIB, MIB, SECONDS, parse_bytes, parse_seconds

ON = {"true", "yes", "on", "1"}
OFF = {"false", "no", "off", "0"}
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|\*")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
INHERITED = -1  # an umask or a limit that is left as it is
AUTO = 0  # workers, until the CPUs are counted


def convert(row: Setting, raw: Any) -> Any:
    """The value that a text, or what TOML made of it, means; raises ConfigError."""
    return READERS[row.about.kind](row, raw)


def show(row: Setting, value: Any) -> str:
    """A value as people would write it."""
    match row.about.kind:
        case Kind.SECONDS:
            return _seconds_text(value)
        case Kind.BYTES:
            return _bytes_text(value) if value >= 0 else ""
        case Kind.SWITCH:
            return "true" if value else "false"
        case Kind.OCTAL:
            return f"{value:03o}" if value >= 0 else ""
        case Kind.ARGV:
            return shlex.join(value)
        case kind if kind in PLURAL or kind is Kind.PAIRS:
            return " ".join(value)
    return str(value)


def _seconds_text(value: float) -> str:
    """In the largest unit that needs no fraction: 10m, 65s, 500ms."""
    for unit in ("h", "m", "s"):
        if value >= SECONDS[unit] and value % SECONDS[unit] == 0:
            return f"{value / SECONDS[unit]:.0f}{unit}"
    return f"{value:g}s" if value > 1 or not value else f"{value * 1000:g}ms"


def _bytes_text(value: int) -> str:
    """In the largest unit that needs no fraction: 1MiB, 64KiB, 1000."""
    for unit, worth in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if value and value % worth == 0:
            return f"{value // worth}{unit}"
    return str(value)


def allowed(row: Setting) -> str:
    """What may be written for a setting, in a few words."""
    about = row.about
    match about.kind:
        case Kind.CHOICE:
            return ", ".join(about.choices)
        case Kind.SWITCH:
            return "true, false"
        case Kind.WORKERS:
            return f"auto, or {about.low:g} to {about.high:g}"
        case Kind.SECONDS:
            return f"a duration{_range(row)} such as 30, 500ms or 2m"
        case Kind.BYTES:
            return f"a size{_range(row)} such as 8192, 64KiB or 1M"
        case Kind.COUNT:
            return f"a whole number{_range(row)}"
        case Kind.APP:
            return "module:attribute, e.g. shop.main:app"
        case Kind.PEERS:
            return "addresses, networks, unix, *"
        case Kind.WHOLE:
            return f"a whole number from {about.low:g} to {about.high:g}"
        case Kind.OCTAL:
            return "a mode such as 027"
        case Kind.NAMES:
            return "names of groups"
        case Kind.HOSTS:
            return "host names without a port, *"
        case Kind.MODULES:
            return "modules, e.g. shop.report"
        case Kind.ARGV:
            return "a command with its arguments, as a text or a list of texts"
        case Kind.PAIRS:
            return "a table of texts"
        case Kind.ADDRESS:
            return "HOST:PORT or unix:PATH"
    return "a text"


def _range(row: Setting) -> str:
    low, high = row.about.low, row.about.high
    if low and high:
        return f" from {low:g} to {high:.0f}"
    return f" of at least {low:g}" if low else f" up to {high:.0f}" if high else ""


def _refuse(row: Setting, raw: Any) -> ConfigError:
    return ConfigError(f"{_written(raw)} is not allowed; allowed: {allowed(row)}")


def _written(raw: Any) -> str:
    """A value as it was written: TOML and the shell say true, Python would say True."""
    return str(raw).lower() if isinstance(raw, bool) else repr(raw)


def _amount(row: Setting, raw: Any, parse: Callable[[str], float]) -> float:
    """A number within the setting's limits."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise _refuse(row, raw)
    try:
        value = parse(str(raw))
    except (ValueError, OverflowError):
        raise _refuse(row, raw) from None
    about = row.about
    # Beyond about ten years a deadline means nothing, and the kernel's timers overflow.
    limit = about.high or (3e8 if about.kind is Kind.SECONDS else 2**62)
    if not about.low <= value <= limit:
        raise _refuse(row, raw)
    return value


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)


def _count(row: Setting, raw: Any) -> int:
    return int(_amount(row, raw, _whole))


def _bytes(row: Setting, raw: Any) -> int:
    if raw == "" and row.default == INHERITED:
        return INHERITED
    return int(_amount(row, raw, parse_bytes))


def _seconds(row: Setting, raw: Any) -> float:
    return float(_amount(row, raw, parse_seconds))


def _workers(row: Setting, raw: Any) -> int:
    return AUTO if raw == "auto" else _count(row, raw)


def _switch(row: Setting, raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).lower()
    if word not in ON | OFF:
        raise _refuse(row, raw)
    return word in ON


def _text(row: Setting, raw: Any) -> str:
    if not isinstance(raw, str) or not NAME.fullmatch(raw):
        raise ConfigError(
            f"{_written(raw)} is not allowed; allowed: up to 64 letters, digits, dots, dashes "
            "and underscores"
        )
    return raw


def _path(row: Setting, raw: Any) -> str:
    if not isinstance(raw, str) or "\0" in raw:
        raise ConfigError(f"{_written(raw)} is not allowed; allowed: a path")
    return raw


def _paths(row: Setting, raw: Any) -> tuple[str, ...]:
    """From the environment, colons part them as in PATH."""
    texts = raw.split(os.pathsep) if isinstance(raw, str) else raw
    if not isinstance(texts, (list, tuple)):
        raise ConfigError(f"{_written(raw)} is not allowed; allowed: a path or a list of paths")
    return tuple(_path(row, text) for text in texts if text != "")


def _peers(row: Setting, raw: Any) -> tuple[str, ...]:
    """Canonical: networks with the host's bits checked, `unix` and `*` as they are."""
    texts = re.split(r"[\s,]+", raw.strip(" ,")) if isinstance(raw, str) else raw
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{_written(raw)} is not allowed; allowed: a text or a list of texts")
    return tuple(_peer(part) for text in texts for part in re.split(r"[\s,]+", text) if part)


def _peer(text: str) -> str:
    if text in ("unix", "*"):
        return text
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no peer ({error}); allowed: an address, a network, unix or *"
        ) from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _words(row: Setting, raw: Any) -> str:
    if not isinstance(raw, str) or not raw.isprintable():
        raise ConfigError(f"{_written(raw)} is not allowed; allowed: a text")
    return raw.strip()


def _choice(row: Setting, raw: Any) -> str:
    """A switch that may also be `auto` reads what other switches read: true is on, false is off."""
    word = str(raw).lower()
    canonical = {choice.lower(): choice for choice in row.about.choices}
    if row.is_on_or_off:
        canonical |= dict.fromkeys(ON, "on") | dict.fromkeys(OFF, "off")
    elif isinstance(raw, bool):
        raise _refuse(row, raw)
    if word not in canonical:
        raise _refuse(row, raw)
    return canonical[word]


def _addresses(row: Setting, raw: Any) -> tuple[str, ...]:
    texts = raw.split() if isinstance(raw, str) else raw
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{_written(raw)} is not allowed; allowed: a text or a list of texts")
    found = [parse_bind(text) for text in texts]
    if not found:
        raise ConfigError("there is no address to listen on; allowed: at least one")
    places = [without_option(address) for address in found]
    twice = [place for place in places if places.count(place) > 1 and not place.endswith(":0")]
    if twice:
        raise ConfigError(f"{twice[0]!r} is given twice")
    return tuple(map(str, found))


def _app(row: Setting, raw: Any) -> str:
    """Canonical: module:attribute, with () behind it where it was written as a call."""
    if not isinstance(raw, str):
        raise _refuse(row, raw)
    module, colon, attribute = raw.partition(":")
    if not raw:
        return ""
    if module.endswith(".py") or "/" in module:
        wanted = module.removesuffix(".py").strip("./").replace("/", ".")
        attribute = attribute or "app"
        raise ConfigError(f"{raw!r} is a file; a module is wanted: {wanted}:{attribute}")
    attribute = attribute if colon else "app"
    if not (_dotted(module) and _dotted(attribute.removesuffix("()"))):
        raise _refuse(row, raw)
    return f"{module}:{attribute}"


def _dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _integer(row: Setting, raw: Any) -> int:
    text = str(raw)
    if isinstance(raw, bool) or not re.fullmatch(r"[+-]?\d{1,6}", text, re.ASCII):
        raise _refuse(row, raw)
    if not row.about.low <= int(text) <= row.about.high:
        raise _refuse(row, raw)
    return int(text)


def _octal(row: Setting, raw: Any) -> int:
    """TOML's 0o27 is a number already; a text is octal as chmod reads it, and none leaves it."""
    if raw == "":
        return INHERITED
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= 0o777:
        return raw
    if not isinstance(raw, str) or not re.fullmatch(r"(0?o)?[0-7]{1,4}", raw, re.ASCII):
        raise _refuse(row, raw)
    return int(raw.replace("o", ""), 8) & 0o777


def _names(row: Setting, raw: Any) -> tuple[str, ...]:
    texts = re.split(r"[\s,]+", raw.strip(" ,")) if isinstance(raw, str) else raw
    if not isinstance(texts, (list, tuple)):
        raise _refuse(row, raw)
    return tuple(_text(row, text) for text in texts if text != "")


def _hosts(row: Setting, raw: Any) -> tuple[str, ...]:
    names = re.split(r"[\s,]+", raw.strip(" ,")) if isinstance(raw, str) else raw
    if not isinstance(names, (list, tuple)):
        raise _refuse(row, raw)
    found = tuple(name for name in names if name != "")
    if not all(isinstance(name, str) and _HOST.fullmatch(name) for name in found):
        raise _refuse(row, raw)
    return found


def _modules(row: Setting, raw: Any) -> tuple[str, ...]:
    """Dotted names of modules."""
    names = _names(row, raw)
    if not all(map(_dotted, names)):
        raise _refuse(row, raw)
    return names


def _argv(row: Setting, raw: Any) -> tuple[str, ...]:
    """Split as a shell would split it; no shell is asked, so there is no expansion."""
    try:
        words = shlex.split(raw) if isinstance(raw, str) else raw
    except ValueError as error:
        raise ConfigError(f"{_written(raw)} is no command: {error}") from None
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise _refuse(row, raw)
    if any("\0" in word for word in words) or (words and not words[0]):
        raise _refuse(row, raw)
    return tuple(words)


def _pairs(row: Setting, raw: Any) -> tuple[str, ...]:
    """`NAME=VALUE`, from a table or from a list of such texts."""
    if isinstance(raw, dict):
        raw = [f"{name}={value}" for name, value in raw.items() if _is_plain(value)]
    if raw == "":
        return ()
    if not isinstance(raw, (list, tuple)) or not all(isinstance(text, str) for text in raw):
        raise _refuse(row, raw)
    for text in raw:
        name, equals, _ = text.partition("=")
        if not (name and equals) or "\0" in text:
            raise ConfigError(f"{text!r} is no variable: NAME=VALUE is wanted")
    return tuple(raw)


def _is_plain(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigError(f"{_written(value)} is no value of a variable: a text is wanted")
    return True


def _address(row: Setting, raw: Any) -> str:
    if not isinstance(raw, str):
        raise _refuse(row, raw)
    return str(parse_bind(raw)) if raw else ""


READERS: dict[Kind, Callable[[Setting, Any], Any]] = {
    Kind.TEXT: _text,
    Kind.CHOICE: _choice,
    Kind.SWITCH: _switch,
    Kind.COUNT: _count,
    Kind.BYTES: _bytes,
    Kind.SECONDS: _seconds,
    Kind.WORKERS: _workers,
    Kind.ADDRESSES: _addresses,
    Kind.APP: _app,
    Kind.PATH: _path,
    Kind.PATHS: _paths,
    Kind.PEERS: _peers,
    Kind.WORDS: _words,
    Kind.WHOLE: _integer,
    Kind.OCTAL: _octal,
    Kind.NAMES: _names,
    Kind.HOSTS: _hosts,
    Kind.MODULES: _modules,
    Kind.ARGV: _argv,
    Kind.PAIRS: _pairs,
    Kind.ADDRESS: _address,
}
