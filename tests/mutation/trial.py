"""A copy of the tree in which one change at a time is tried."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutation.draw import Mutant
from tests.support.offspring import Offspring

UNCOPIED = (".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "findings")
PASSED, FAILED, NOTHING = 0, 1, 5  # exit statuses of pytest: 5 where no test was selected
# A line of pytest's summary: the test, whose parameters may hold anything, and why.
SUMMARY = re.compile(r"^(?:FAILED|ERROR) ([^\s\[][^\n\[]*?(?:\[.*?\])?)(?: - .*)?$", re.MULTILINE)
LIMIT = 300.0  # seconds for one run of pytest: a change that makes it hang was noticed


@dataclass
class Copy:
    root: Path
    _changes: int = field(default=0)

    def run(self, tests: list[str]) -> str:
        """Run tests until one fails. Return which, or nothing where all pass."""
        command = [str(self.root / ".venv/bin/python"), "-m", "pytest", "-q", "-x", "-n", "0"]
        command += ["-p", "no:cacheprovider", "-rfE", "--tb=no", "--no-header"]
        environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(self.root / ".hypothesis")}
        with Offspring(), (self.root / "output").open("w+") as output:
            try:
                done = subprocess.run(
                    [*command, *tests],
                    cwd=self.root,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=LIMIT,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"{' '.join(tests)}: not done after {LIMIT:.0f} s"
            if done.returncode in (PASSED, NOTHING):
                return ""
            output.seek(0)
            failed = failures(output.read())
        return failed or f"{' '.join(tests)}: {ending(done.returncode)}"

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """Have a change in the copy's sources."""
        path = self.root / mutant.path
        before = path.read_bytes()
        self._write(path, mutant.mutation.apply(before))
        try:
            yield
        finally:
            self._write(path, before)

    def _write(self, path: Path, source: bytes) -> None:
        """Give each version a modification time of its own: bytecode is told from its source by
        size and whole seconds."""
        self._changes += 1
        path.write_bytes(source)
        os.utime(path, (self._changes, self._changes))


def failures(output: str) -> str:
    """Return the test that pytest's summary names first, or nothing."""
    match = SUMMARY.search(output)
    return match[1] if match else ""


def ending(status: int) -> str:
    """Describe the end of a pytest that has named no test."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


@contextmanager
def copied(root: Path) -> Iterator[Copy]:
    """Copy the tree, and give it an interpreter that finds this copy of clusterd first.

    PYTHONPATH would not do: masters of root drop it for some of their children.
    """
    place = Path(tempfile.mkdtemp(prefix="clusterd-mutation-"))
    place.chmod(0o755)  # some tests run as another user
    try:
        shutil.copytree(
            root, place / "tree", ignore=shutil.ignore_patterns(*UNCOPIED), symlinks=True
        )
        venv.create(place / "tree/.venv", symlinks=True)
        site = next((place / "tree/.venv/lib").glob("python*/site-packages"))
        libraries = [path for path in sys.path if path.endswith("-packages")]
        lines = [str(place / "tree"), *libraries]
        (site / "copy.pth").write_text("".join(f"{line}\n" for line in lines))
        yield Copy(place / "tree")
    finally:
        shutil.rmtree(place, ignore_errors=True)
