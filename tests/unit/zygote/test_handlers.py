"""Signal handlers that an import installs: which of them are named, and how."""

import subprocess
import sys
from pathlib import Path

import pytest

IMPORT = """
import faulthandler, functools, signal, sys
from clusterd.zygote import handlers
{before}
earlier = handlers.read()
sys.path.insert(0, sys.argv[1])
import shop
print(handlers.replaced(earlier, [sys.argv[1]]))
"""
OURS = "signal.signal(signal.SIGUSR2, lambda *_: None)"
IMPORTS = "import faulthandler, functools, signal"
FUNCTION = f"{IMPORTS}\ndef on_term(number, frame): pass\nsignal.signal(signal.SIGTERM, "
C_HANDLER = "SIGUSR2 (a handler in C, as of faulthandler.register)"


@pytest.mark.parametrize("before", ["", OURS], ids=["default before", "ours before"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"{FUNCTION}on_term)", "SIGTERM (on_term, shop.py:2)"),
        (f"{FUNCTION}functools.partial(on_term))", "SIGTERM (on_term, shop.py:2)"),
        (f"{IMPORTS}\nsignal.signal(signal.SIGHUP, lambda *_: 0)", "SIGHUP (<lambda>, shop.py:2)"),
        (f"{IMPORTS}\nsignal.signal(signal.SIGUSR2, print)", "SIGUSR2 (print)"),
        (f"{IMPORTS}\nfaulthandler.register(signal.SIGUSR2)", C_HANDLER),
        (f"{IMPORTS}\nfaulthandler.register(signal.SIGUSR1)", ""),
        (f"{IMPORTS}\nsignal.signal(signal.SIGUSR1, print)", ""),
        (f"{IMPORTS}\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)", ""),
        (f"{IMPORTS}\nsignal.signal(signal.SIGUSR2, signal.SIG_DFL)", ""),
        (IMPORTS, ""),
    ],
)
def test_a_handler_that_workers_replace_is_named(
    tmp_path: Path, before: str, code: str, said: str
) -> None:
    (tmp_path / "shop.py").write_text(code)
    words = [sys.executable, "-c", IMPORT.format(before=before), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\n") == said
