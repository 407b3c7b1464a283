"""What `clusterd check` tries in a child: read the certificates, take the limits on, import.

In this order, and in a process of its own, as a zygote would: what the application does at import
must not touch the one that checks. Run as a program: settings on standard input, one JSON object
with what came of it to the descriptor in the argument.
"""

import json
import os
import sys
import time
from typing import Any

from clusterd.app.importer import LoadError, interface_of, load
from clusterd.config.settings import Config
from clusterd.core.errors import ClusterdError
from clusterd.kernel import privileges
from clusterd.master import certificates
from clusterd.worker.keyring import Keyring

Told = dict[str, Any]


def main() -> None:
    """Try all, tell of all."""
    config = Config.from_wire(json.load(sys.stdin))
    told: Told = {}
    with open(int(sys.argv[1]), "w") as pipe:
        told["tls"] = _tls(config)
        try:
            privileges.apply(config.limits)
        except ClusterdError as error:
            told["limits"] = {"error": error.message, "remedy": error.remedy}
        else:
            told["app"] = _app(config)
        json.dump(told, pipe)
    os._exit(0)  # threads that the import started are not waited for


def _tls(config: Config) -> Told:
    """Whether certificates and keys can be used, for whom, and until when."""
    try:
        sealed = certificates.read(config.tls)
        if sealed is None:
            return {}
        found = Keyring(config.tls).renew(0, os.dup(sealed.fd))
    except ClusterdError as error:
        return {"error": error.message, "remedy": error.remedy}
    if found.fault:
        return {"error": found.fault, "remedy": found.remedy}
    return {"names": found.names, "expires": found.expires, "warnings": found.warnings}


def _app(config: Config) -> Told:
    """Whether the application can be imported, how long that takes and what it is."""
    if not config.app.app:
        return {}
    begun = time.perf_counter()
    try:
        found = load(config.app.app, config.app.app_dir, config.app.factory, config.app.interface)
        kind = interface_of(found, config.app.interface)
    except LoadError as error:
        return {"error": error.message, "remedy": error.remedy, "traceback": error.traceback}
    return {"seconds": time.perf_counter() - begun, "interface": kind}


if __name__ == "__main__":
    main()
