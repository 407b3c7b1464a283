"""Make an image by importing the application. Apart from it, since keepers import none."""

import gc
import time
from types import ModuleType

from clusterd.app.importer import LoadError, load
from clusterd.config.serving import AppSettings
from clusterd.kernel.randomness import Watch
from clusterd.zygote import identities, inventory, patched
from clusterd.zygote.draws import Observer
from clusterd.zygote.image import Image, fingerprint


def build(
    settings: AppSettings, secrets: ModuleType | None = None, is_forked: bool = True
) -> Image:
    """Import the application. Raises AppError with the application's own traceback, or where
    the import did what no process can serve with.

    `secrets`: the module of that name, where its draws are to be found too. `is_forked`: whether
    workers are to be forked from the image, so that identities matter.
    """
    standard = patched.originals()
    began = time.monotonic()
    # What an import makes stays: looking for garbage in it again and again finds next to nothing.
    gc.disable()
    try:
        with Watch(), Observer(settings.app, settings.app_dir, secrets) as observer:
            app = load(
                settings.app,
                settings.app_dir,
                settings.factory,
                settings.interface,
                settings.preload_modules,
            )
    finally:
        gc.enable()
    refuse(inventory.judge(patched.replaced(standard)))
    found = identities.find(observer.draws) if is_forked else ()  # before they are frozen
    # Frozen objects are left alone by the collector, so that it does not write to (and thereby
    # copy) pages that all workers share.
    gc.collect()
    gc.freeze()
    return Image(app, fingerprint(), time.monotonic() - began, found)


def refuse(found: inventory.Inventory) -> None:
    """Raise LoadError where the import left what the application cannot be served with."""
    for one in found.left:
        if one.kind.verdict is inventory.Verdict.REFUSE:
            raise LoadError(one.what, one.kind.advice)
