"""Make an image by importing the application. Apart from it, since keepers import none."""

import gc
import time
from types import ModuleType

from clusterd.app.importer import LoadError, interface_of, load
from clusterd.config.serving import AppSettings
from clusterd.kernel.loading import loading
from clusterd.kernel.randomness import Watch
from clusterd.zygote import identities, inventory, patched
from clusterd.zygote.draws import Observer
from clusterd.zygote.image import Image, fingerprint

# What an import makes stays, so that the collector finds little in it, and looks seldom: after so
# many new objects. Not never: the import's garbage would leave gaps all over the heap, and what a
# worker writes into a gap copies a page that all workers share. With numpy and matplotlib, PSS of
# 4 workers was 1.5 MB more without any collection; the import
# and the last collection together took up to 5 % longer with these.
SELDOM = 5_000


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
    usual = gc.get_threshold()
    gc.set_threshold(SELDOM, *usual[1:])
    try:
        with loading(), Watch(), Observer(settings.app, settings.app_dir, secrets) as observer:
            app = load(
                settings.app,
                settings.app_dir,
                settings.factory,
                settings.interface,
                settings.preload_modules,
            )
    finally:
        if gc.get_threshold()[0] == SELDOM:  # else the application has chosen its own
            gc.set_threshold(*usual)
    refuse(inventory.judge(patched.replaced(standard)))
    # Here, once: to ask for a signature writes to a good many pages, which each worker would copy.
    kind = interface_of(app, settings.interface)
    found = identities.find(observer.draws) if is_forked else ()  # before they are frozen
    # Frozen objects are left alone by the collector, so that it does not write to (and thereby
    # copy) pages that all workers share.
    gc.collect()
    gc.freeze()
    return Image(app, fingerprint(), time.monotonic() - began, found, kind)


def refuse(found: inventory.Inventory) -> None:
    """Raise LoadError where the import left what the application cannot be served with."""
    for one in found.left:
        if one.kind.verdict is inventory.Verdict.REFUSE:
            raise LoadError(one.what, one.kind.advice)
