"""The user's application under another name, so that its import can be made to fail on purpose.

`clusterd bench --broken-deploy` serves `clusterd.bench.shim:app` instead of what it was given. The
attribute *is* the application, so requests cost the same. Named after two environment variables,
since what imports it is another process: which application, and a file that breaks the import for
as long as it exists.
"""

import functools
import importlib
import os
from pathlib import Path

APP = "BENCH_SHIM_APP"  # module:attribute
BROKEN = "BENCH_SHIM_BROKEN"  # a path


class BrokenOnPurpose(Exception):
    """Raised by the import while the file exists."""


def found(name: str, broken: str) -> object:
    """The application `name`; raises BrokenOnPurpose while the file `broken` exists."""
    if Path(broken).exists():
        raise BrokenOnPurpose(f"clusterd bench --broken-deploy breaks the import of {name}")
    module, _, attribute = name.partition(":")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))


if APP in os.environ:  # not where the module is only looked at
    app = found(os.environ[APP], os.environ[BROKEN])
