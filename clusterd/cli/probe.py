"""What `clusterd check` tries in a child: read the certificates, take the limits on, import.

In this order, and in a process of its own, as a zygote would: what the application does at import
must not touch the one that checks. Run as a program: settings on standard input, one JSON object
with what came of it to the descriptor in the argument.
"""

import json
import os
import secrets
import sys
from typing import Any

from clusterd.app.importer import LoadError
from clusterd.cli.later_imports import later_imports
from clusterd.config.settings import Config
from clusterd.core.errors import ClusterdError
from clusterd.core.own_code import OwnCode
from clusterd.kernel import limited, resources
from clusterd.master import certificates
from clusterd.worker.keyring import Keyring
from clusterd.zygote import inventory
from clusterd.zygote.importing import build
from clusterd.zygote.trail import Trail, roots

Told = dict[str, Any]


def main() -> None:
    """Try all, tell of all."""
    config = Config.from_wire(json.load(sys.stdin))
    told: Told = {}
    with open(int(sys.argv[1]), "w") as pipe:
        told["tls"] = _tls(config)
        try:
            limited.take_on(config.limits)
        except ClusterdError as error:
            told["limits"] = {"error": error.message, "remedy": error.remedy}
        else:
            told["app"] = _app(config)
        json.dump(told, pipe)
    os._exit(0)  # threads that the import started are not waited for


def _tls(config: Config) -> Told:
    """Whether certificates and keys can be used, for whom, and until when."""
    try:
        sealed = certificates.read(config)
        if sealed is None:
            return {}
        found = Keyring(config.tls).renew(0, os.dup(sealed.fd))
    except ClusterdError as error:
        return {"error": error.message, "remedy": error.remedy}
    if found.fault:
        return {"error": found.fault, "remedy": found.remedy}
    return {"names": found.names, "expires": found.expires, "warnings": found.warnings}


def _app(config: Config) -> Told:
    """Import the application as a zygote does; return how long that took, what it is, and what
    the import left that must not cross a fork."""
    app = config.app
    if not app.app:
        return {}
    earlier, trail = resources.read(), Trail(roots(app.app, app.app_dir))
    try:
        with trail:
            image = build(app, secrets)
    except LoadError as error:
        return {"error": error.message, "remedy": error.remedy, "traceback": error.traceback}
    left = inventory.take(earlier, image.identities, trail.where)
    told = {"reason": left.reason, "advice": left.advice}
    shared = [one.what for one in left.left if one.kind.name == "shared draws"]
    return {
        "seconds": image.seconds,
        "interface": image.interface,
        "left": told,
        "shared": shared,
        "later": later_imports(OwnCode(app.app, app.app_dir)),
    }


if __name__ == "__main__":
    main()
