"""Make an image by importing the application. Apart from it, since keepers import none."""

import gc
import time

from clusterd.app.importer import LoadError, load
from clusterd.config.serving import AppSettings
from clusterd.zygote import inventory, patched
from clusterd.zygote.image import Image, fingerprint


def build(settings: AppSettings) -> Image:
    """Import the application. Raises AppError with the application's own traceback, or where
    the import did what no process can serve with."""
    standard = patched.originals()
    began = time.monotonic()
    # What an import makes stays: looking for garbage in it again and again finds next to nothing.
    gc.disable()
    try:
        app = load(settings.app, settings.app_dir, settings.factory, settings.interface)
    finally:
        gc.enable()
    refuse(inventory.judge(patched.replaced(standard)))
    # Frozen objects are left alone by the collector, so that it does not write to (and thereby
    # copy) pages that all workers share.
    gc.collect()
    gc.freeze()
    return Image(app, fingerprint(), time.monotonic() - began)


def refuse(found: inventory.Inventory) -> None:
    """Raise LoadError where the import left what the application cannot be served with."""
    for one in found.left:
        if one.kind.verdict is inventory.Verdict.REFUSE:
            raise LoadError(one.what, one.kind.advice)
