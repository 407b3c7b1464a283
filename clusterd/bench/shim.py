"""The user's application under another name, so that its import can be made to fail on purpose.

`clusterd bench --broken-deploy` serves `clusterd.bench.shim:app` instead of what it was given. The
attribute *is* the application, so requests cost the same. What imports it is another process, so
the environment says which application; a file in the server's private directory, which is its
XDG_RUNTIME_DIR, breaks the import for as long as it exists.
"""

import functools
import importlib
import os

APP = "BENCH_SHIM_APP"  # module:attribute
PLACE = "XDG_RUNTIME_DIR"
BREAKS = "broken"  # name of the file


class BrokenOnPurpose(Exception):
    """Raised by the import while the file exists."""


def found(name: str, place: str) -> object:
    """The application `name`; raises BrokenOnPurpose while the file exists in `place`."""
    if os.path.exists(os.path.join(place, BREAKS)):
        raise BrokenOnPurpose(f"clusterd bench --broken-deploy breaks the import of {name}")
    module, _, attribute = name.partition(":")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))


if APP in os.environ:  # not where the module is only looked at
    app = found(os.environ[APP], os.environ.get(PLACE, ""))
