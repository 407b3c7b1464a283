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
from clusterd.zygote.image import Image
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
            for name, _, value in (pair.partition("=") for pair in config.command.environment):
                os.environ[name] = value
            told["app"], image = _app(config)
            if image is not None and config.jobs.jobs and config.listen.bind == ():
                told["jobs"] = _jobs(config, image.app)
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


def _jobs(config: Config, app: object) -> Told:
    """Use the store as a job worker would."""
    # Here, since what is loaded before the application hides that it loads it later.
    from clusterd.jobs.api import Jobs
    from clusterd.jobs.drive import run
    from clusterd.jobs.stores import open_store

    if not isinstance(app, Jobs):
        return {}  # the scheduler
    try:
        store = open_store(config.jobs.jobs_store)
        run(store, store.open())
    except ClusterdError as error:
        return {"error": error.message, "remedy": error.remedy}
    return {"jobs": len({id(job) for job in app.registry.values()})}


def _app(config: Config) -> tuple[Told, Image | None]:
    """Import the application as a zygote does; return how long that took, what it is, and what
    the import left that must not cross a fork."""
    app = config.app
    if not app.app:
        return {}, None
    earlier, trail = resources.read(), Trail(roots(app.app, app.app_dir))
    try:
        with trail:
            image = build(app, secrets)
    except LoadError as error:
        told = {"error": error.message, "remedy": error.remedy, "traceback": error.traceback}
        return told, None
    left = inventory.take(earlier, image.identities, trail.where)
    shared = [one.what for one in left.left if one.kind.name == "shared draws"]
    found = {
        "seconds": image.seconds,
        "interface": image.interface,
        "left": {"reason": left.reason, "advice": left.advice},
        "shared": shared,
        "later": later_imports(OwnCode(app.app, app.app_dir)),
    }
    return found, image


if __name__ == "__main__":
    main()
