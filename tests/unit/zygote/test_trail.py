"""Where in the application things were made; asked of fresh interpreters, which import it once."""

import subprocess
import sys
from pathlib import Path

import pytest

WATCH = """
import sys
from clusterd.kernel import resources
from clusterd.zygote import inventory
from clusterd.zygote.trail import Trail, roots
sys.path.insert(0, sys.argv[1])
earlier = resources.read()
before = __import__
with Trail(roots("shop.web:app", sys.argv[1])) as trail:
    import shop.web
for one in inventory.take(earlier, where=trail.where).left:
    print(f"{one.what} | {one.where}", flush=True)
import builtins, os
assert builtins.__import__ is before, "nothing stays behind"
if sys.version_info >= (3, 12):
    assert not any(sys.monitoring.get_tool(tool) for tool in range(6)), "nothing stays behind"
os._exit(0)
"""
FILES = {
    "__init__.py": "",
    "db.py": "import sqlite3\nfrom shop import jobs\n\nkept = sqlite3.connect(\n    'x.db')\n",
    "jobs.py": (
        "import threading\nstop = threading.Event()\n\ndef start():\n"
        "    thread = threading.Thread(target=stop.wait, daemon=True, name='tea')\n"
        "    thread.start()\n\nstart()\n"
    ),
    "web.py": "from shop import db\nimport select\npoll = select.epoll()\n",
}


def made(place: Path, files: dict[str, str], code: str = WATCH) -> list[str]:
    """Return what the inventory found after the import of `shop.web`, and where it was made."""
    package = place / "shop"
    package.mkdir(exist_ok=True)
    for name, text in files.items():
        (package / name).write_text(text)
    command = [sys.executable, "-c", code, str(place)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_line_that_made_a_thing_is_named(tmp_path: Path) -> None:
    """Before Python 3.12 the import statements are all that is seen without cost."""
    exact = sys.version_info >= (3, 12)
    assert made(tmp_path, FILES) == [
        "the thread 'tea' | shop/jobs.py" + (":6" if exact else ", after the import in line 1"),
        f"the open SQLite file {tmp_path}/x.db | shop/db.py"
        + (":4" if exact else ", after the import in line 2"),
        "an event loop | shop/web.py" + (":3" if exact else ", after the import in line 2"),
    ]


def test_a_library_is_named_by_the_line_that_imports_it(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "greedy.py").write_text("import select\n\n\nkept = select.epoll()\n")
    web = f"import sys\nsys.path.append({str(packages)!r})\nimport greedy\nimport json\n"
    assert made(tmp_path, {"__init__.py": "", "web.py": web}) == ["an event loop | shop/web.py:3"]


def test_the_line_that_started_a_process_is_named(tmp_path: Path) -> None:
    web = (
        "import subprocess, sys\n\nkept = subprocess.Popen(\n"
        "    [sys.executable, '-c', 'input()'], stdin=subprocess.PIPE\n)\n"
    )
    exact = sys.version_info >= (3, 12)
    assert made(tmp_path, {"__init__.py": "", "web.py": web}) == [
        f"the process '{sys.executable} -c input()' | shop/web.py"
        + (":3" if exact else ", after the import in line 1")
    ]


def test_where_no_line_is_known_none_is_named(tmp_path: Path) -> None:
    """Before Python 3.12 there is none without an import statement; else the time may be over."""
    exact = sys.version_info >= (3, 12)
    web = "kept = open('/etc/passwd')\n"
    assert made(tmp_path, {"__init__.py": "", "web.py": web}) == [
        "the open file /etc/passwd | " + ("shop/web.py:1" if exact else "")
    ]
    over = WATCH.replace("as trail:\n", "as trail:\n    trail._left = 1e-9\n")
    (tmp_path / "shop" / "web.py").write_text("x = 1\nkept = open('/etc/passwd')\n")
    assert made(tmp_path, {}, over) == ["the open file /etc/passwd | "]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no lines are reported there")
def test_reports_of_lines_take_of_the_time_as_well(tmp_path: Path) -> None:
    """In a file that is large each takes long; looks alone would leave time for all of them."""
    slow = WATCH.replace("import sys\n", "import sys\nfrom clusterd.zygote import trail\n", 1)
    slow = slow.replace("as trail:\n", "as watch:\n").replace("trail.where", "watch.where")
    web = "first = open('/etc/passwd')\nx = 1\nsecond = open('/etc/group')\n"
    files = {"__init__.py": "", "web.py": web}
    ours = {
        f"the open file /etc/{name} | {place}"
        for name, place in (("passwd", "shop/web.py:1"), ("group", "shop/web.py:3"))
    }
    assert set(made(tmp_path, files, slow)) == ours
    slow = slow.replace("earlier =", "trail.LINE = 1.0\nearlier =")
    assert "the open file /etc/group | " in made(tmp_path, {}, slow)


def test_a_warning_of_an_import_blames_the_line_that_imports(tmp_path: Path) -> None:
    """The frame that looks on is passed over like the import machinery's own."""
    files = {
        "__init__.py": "",
        "old.py": "import warnings\nwarnings.warn('old', UserWarning, stacklevel=2)\n",
        "web.py": (
            "import warnings\nwith warnings.catch_warnings(record=True) as told:\n"
            "    from shop import old\nprint(told[0].filename, told[0].lineno, flush=True)\n"
        ),
    }
    assert made(tmp_path, files) == [f"{tmp_path}/shop/web.py 3"]
