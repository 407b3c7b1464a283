"""Choose the tests that should notice a change: the nearest first, then real processes."""

import re
from pathlib import Path

from tests.mutation.draw import package

# The directories whose unit tests ask a package most, beside its own. `unit` has those of the docs.
NEIGHBOURS = {
    "app": ["worker"],
    "core": ["ipc", "worker", "master"],
    "fleet": ["master"],
    "ipc": ["master"],
    "wire": ["app", "worker"],
    "observe": ["cli"],
    "config": ["cli", "unit"],
    "cli": ["unit"],
}
# Files of tests/process, without `test_` and `.py`.
LIFE = ["life", "stops", "drain", "reload"]
PROCESSES = {
    "app": ["wsgi", "websocket", "lazy", "imports"],
    "bench": ["bench", "bench_honesty", "bench_protocols"],
    "child": ["starts", *LIFE],
    "cli": ["cli", "why", "top", "control", "upgrade"],
    "config": ["cli", "groups", "place"],
    "core": ["logs", "signals", "ends"],
    "demo": ["cli"],
    "fleet": [*LIFE, "faults", "starts"],
    "ipc": [*LIFE, "control", "upgrade"],
    "jobs": ["jobs", "jobs_api", "jobs_hostile", "job_store"],
    "keeper": ["groups", "ends"],
    "kernel": ["own_files", "ends", "rights", "trusted_paths", "faults", "breaches"],
    "master": [*LIFE, "control", "upgrade", "faults", "ends", "places", "certificates"],
    "observe": ["admin", "top", "why", "recycle"],
    "watch": ["dev"],
    "wire": ["proxy", "http2", "websocket"],
    "worker": [*LIFE, "hangs", "recycle", "tls", "http2", "websocket", "logs", "signals"],
    "zygote": ["starts", "imports", "import_per_worker", "identity", "reload", "hangs"],
}


def near(root: Path, path: str) -> list[list[str]]:
    """Return files of unit tests: those named like the module, then all others that may notice.

    Of the others, those that import it come first, then its package's, then its neighbours'.
    """
    room, module = package(path), Path(path).stem
    units = sorted((root / "tests/unit").rglob("test_*.py"))
    own = [test for test in units if test.parent.name == room]
    named = [test for test in own if test.stem.startswith(f"test_{module}")]
    dotted = path.removesuffix(".py").replace("/", ".")
    alone = rf"from {re.escape(dotted.rpartition('.')[0])} import [^\n]*\b{module}\b"
    imported = re.compile(rf"\b{re.escape(dotted)}\b|{alone}")
    importing = [test for test in units if imported.search(test.read_text())]
    beside = [test for test in units if test.parent.name in NEIGHBOURS.get(room, ())]
    others = [test for test in dict.fromkeys(importing + own + beside) if test not in named]
    return [[str(test.relative_to(root)) for test in step] for step in (named, others) if step]


def far(root: Path, path: str) -> list[list[str]]:
    """Return the tests with real processes, one file a step."""
    files = [f"tests/process/test_{name}.py" for name in PROCESSES.get(package(path), LIFE)]
    return [[file] for file in files if (root / file).exists()]
