"""Metrics of the application itself, where it keeps them in prometheus_client's files for several
processes (PROMETHEUS_MULTIPROC_DIR), merged into ours."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from clusterd.core.log import get_logger
from clusterd.observe.catalogue import PREFIX
from clusterd.observe.metrics import END

Encode = Callable[[Any], bytes]  # as prometheus_client has it, for a format

logger = get_logger("clusterd.observe")


class Merged:
    """The directory of files, one or more a process."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def exposition(self, encode: Encode) -> bytes:
        """The application's metrics. Nothing where they cannot be read: ours are still true."""
        try:
            self.bury()
            page = encode(self)
        except Exception as error:  # of files that others write
            logger.warning("metrics of the application cannot be read: %r", error)
            return b""
        return page.removesuffix(END.encode())

    def collect(self) -> Iterator[Family]:
        """The application's families, without those that would be taken for ours."""
        merge: Any = MultiProcessCollector.merge
        # A file is empty while the process that it belongs to makes it.
        files = [str(one) for one in Path(self.directory).glob("*.db") if one.stat().st_size]
        found = merge(files, accumulate=True)
        return (family for family in found if not family.name.startswith(PREFIX))

    def bury(self) -> None:
        """Remove the live gauges of processes that are gone, as `mark_process_dead` wants it.

        Nobody has to tell us of deaths: a file is named by its process, and who reads is in time.
        """
        for file in Path(self.directory).glob("gauge_live*_*.db"):
            pid = file.stem.rpartition("_")[2]
            if pid.isdigit() and not Path("/proc", pid).exists():
                mark_process_dead(int(pid), self.directory)  # type: ignore[no-untyped-call]
