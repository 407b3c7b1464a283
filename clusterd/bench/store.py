"""Reports as files: written whole or not at all, and read back as they were.

A report is JSON: the fields of `results.Report`, histograms in HdrHistogram's own interchange form,
and a `summary` with the figures as the table has them, for scripts. Reading leaves that aside.
"""

import contextlib
import errno
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from clusterd.bench.errors import CannotWrite
from clusterd.bench.figures import Figures, Speedup, figures
from clusterd.bench.histogram import Histogram
from clusterd.bench.noise import Ratio, Spread
from clusterd.bench.results import FORMAT, Report
from clusterd.core.errors import ConfigError
from clusterd.core.plain import Hints, Reader, Unfit, Writer

KIND = "clusterd bench report"
_HINTS = Hints({})


def save(report: Report, path: Path) -> None:
    """Store a report; raises CannotWrite."""
    write(path, dumps(report))


def load(path: Path) -> Report:
    """A report from a file; raises ConfigError where there is none that this version reads."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no report: it is not even text") from error
    try:
        return loads(text)
    except ConfigError as error:
        raise ConfigError(f"{path} {error.message}", error.remedy) from error


def dumps(report: Report) -> str:
    """A report as JSON, a field a line at the top so that people find their way."""
    writer = Writer(_HINTS, {}, {Histogram: lambda _writer, histogram: histogram.encode()})
    body = {
        "kind": KIND,
        "format": report.format,
        "summary": [_summary(f) for f in figures(report)],
    }
    body.update(writer.write(Report, report))
    lines = (
        f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in body.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def loads(text: str) -> Report:
    """The inverse; raises ConfigError for what is no report, or one of a later version."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is no report: {error}", "'clusterd bench' writes them") from error
    if not isinstance(body, dict) or body.get("kind") != KIND:
        raise ConfigError("is no report of 'clusterd bench'", "it writes one beside its page")
    made = body.get("format")
    if made != FORMAT:
        raise ConfigError(
            f"has format {made!r}, and this version reads {FORMAT}", "use the clusterd that made it"
        )
    body = {name: value for name, value in body.items() if name not in ("kind", "summary")}
    reader = Reader(_HINTS, {}, {Histogram: lambda _reader, plain: Histogram.decode(plain)})
    try:
        report: Report = reader.read(Report, body, "Report")
    except (Unfit, RecursionError) as error:
        raise ConfigError(f"is a damaged report: {error}") from error
    return report


def write(path: Path, data: str | bytes) -> None:
    """A whole file in the place of what was there, or nothing at all; raises CannotWrite.

    What is no plain file, say a pipe or /dev/stdout, is written to as it is.
    """
    raw = data.encode() if isinstance(data, str) else data
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            with path.open("wb") as file:
                file.write(raw)
            return
        _replace(Path(os.path.realpath(path)), raw)  # a symbolic link stays one
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written: {error.strerror}", _remedy(error)) from error


def _replace(path: Path, raw: bytes) -> None:
    """By a new file beside it, which takes its name once it is whole and on the disk."""
    number, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(raw)
            os.fchmod(file.fileno(), _mode(path))
            file.flush()
            os.fsync(file.fileno())  # where a disk is full, some file systems say so only now
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _mode(path: Path) -> int:
    """That of the file that is replaced, else what a new one would have."""
    with contextlib.suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _remedy(error: OSError) -> str:
    remedies = {
        "ENOSPC": "free some space, or name another place with --report",
        "EDQUOT": "free some space, or name another place with --report",
        "ENOENT": "make the directory first, or name another place with --report",
        "ENOTDIR": "name another place with --report",
        "EISDIR": "that is a directory: name a file in it",
    }
    return remedies.get(errno.errorcode.get(error.errno or 0, ""), "name another with --report")


def _summary(one: Figures) -> dict[str, Any]:
    """Figures for scripts: numbers in the units that their names say, null where not known."""
    return {
        "side": one.side.name,
        "workers": one.side.workers,
        "connections": one.load.connections,
        "rate": one.load.rate or None,
        "turns": len(one.turns),
        "requests": one.requests,
        "errors": one.errors,
        "lost": one.lost,
        "throughput": _spread(one.throughput),
        "latency_us": {
            "mean": round(one.mean, 1),
            **{name: None if found.why else found.value for name, found in one.percentiles.items()},
            "max": one.max,
        },
        "not_carried": {name: p.why for name, p in one.percentiles.items() if p.why},
        "cpu_us_per_request": _spread(one.cpu),
        "pss_bytes": _spread(one.pss),
        "balance": _spread(one.balance),
        "speedup": _speedup(one.speedup),
        "doubts": list(one.doubts),
    }


def _spread(found: Spread | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {"median": found.median, "low": found.low, "high": found.high}


def _ratio(found: Ratio | None) -> dict[str, float | None] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}


def _speedup(found: Speedup | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "over": found.over,
        "cores": found.cores,
        "throughput": _ratio(found.throughput),
        "rate": found.rate,
        "cpu": _ratio(found.cpu),
        "efficiency": found.efficiency,
        "fair": found.fair,
        "fair_cpu": found.fair_cpu,
    }
