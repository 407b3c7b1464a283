"""Stacks for people: the application's frames first and whole, all other frames folded. Pure.

One function for every text that shows where code is or where it failed: `dump`, hang reports in the
log, `why`, `top`. It reads what `traceback` prints and what faulthandler writes from C.
"""

import re
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

HOME = str(Path(__file__).parents[1])
# An application that comes along, and is shown like one of the user's.
DEMO = f"{HOME}/demo.py"
STANDARD = sysconfig.get_paths()["stdlib"]
FRAME = re.compile(r'  File "([^"\n]+)", line \d+(,?)')
PACKAGES = re.compile(r".*/(?:site|dist)-packages/([^/]+)")
LIBRARY = re.compile(r".*/lib(?:64)?/python3\.\d+/([^/]+)")  # of any installation's
SECTION = re.compile(r"(?:thread|task|\d+ tasks, one of them) ")
# The task that waits for shutdown all the time, in the application's code: the least of news.
LIFESPAN = "task lifespan"
# What stands for the stacks of a process in which not even a signal's handler ran.
NO_STACKS = "it did not even answer the signal"
MOST_NAMES = 4  # of packages, or of threads and tasks, that a folded line names
APP, OWN, LIB, STDLIB, NOTE = "app", "own", "lib", "stdlib", "note"


class Frame(NamedTuple):
    """A frame and the lines below it."""

    kind: str
    package: str
    lines: Sequence[str]


class Block(NamedTuple):
    """A line that is not indented, and the frames below it: a thread, a task, an exception."""

    head: Sequence[str]
    frames: Sequence[Frame]
    newest_first: bool  # as faulthandler writes them

    @property
    def is_section(self) -> bool:
        """Return whether this is a thread or a task of a dump."""
        return bool(self.head) and SECTION.match(self.head[0]) is not None

    def has(self, *kinds: str) -> bool:
        return any(frame.kind in kinds for frame in self.frames)


def fold(text: str, hint: str = "") -> list[str]:
    """Return the text's lines with runs of foreign frames as one line each.

    Threads and tasks in which nothing of the application runs are named in the last line; `hint`
    says how to see them. Exceptions keep their order. Where no frame is the application's, those of
    installed packages are shown: applications may be installed, too.
    """
    blocks = [_block(part) for part in re.split(r"\n(?=\S)", text.strip("\n"))]
    shown = {APP} if any(block.has(APP) for block in blocks) else {LIB}
    if not any(block.has(*shown) or block.is_section for block in blocks):
        return text.rstrip().splitlines()
    lines: list[str] = []
    idle: list[str] = []
    for block in sorted(blocks, key=lambda block: list(block.head[:1]) == [LIFESPAN]):
        if block.is_section and not block.has(*shown):
            idle += block.head[:1]
        else:
            lines += [*block.head, *_folded(block, shown)]
    if idle:
        lines.append(f"… nothing of the application in {_named(idle)}{hint and f': {hint}'}")
    return lines


def _block(text: str) -> Block:
    head: list[str] = []
    frames: list[Frame] = []
    newest_first = False
    for line in text.rstrip().splitlines():
        match = FRAME.match(line)
        if match:
            newest_first = not match[2]
            frames.append(Frame(*_kind(match[1]), [line]))
        elif frames and line[:4] == "    ":
            frames[-1] = frames[-1]._replace(lines=[*frames[-1].lines, line])
        elif frames:
            frames.append(Frame(NOTE, "", [line]))
        elif line:
            head.append(line)
    return Block(head, frames, newest_first)


def _kind(path: str) -> tuple[str, str]:
    """Return whose a file is, and of which package."""
    if path.startswith(f"{HOME}/") and path != DEMO:
        return OWN, "clusterd"
    if path.startswith("<frozen"):
        return STDLIB, path[len("<frozen ") : -1].partition(".")[0]
    if match := PACKAGES.match(path):
        return LIB, match[1].removesuffix(".py")
    if path.startswith(f"{STANDARD}/"):
        return STDLIB, path[len(STANDARD) + 1 :].partition("/")[0].removesuffix(".py")
    if match := LIBRARY.match(path):
        return STDLIB, match[1].removesuffix(".py")
    return APP, ""


def _folded(block: Block, shown: Iterable[str]) -> list[str]:
    """Return the lines of a block's frames; the newest frame tells what the code waits for."""
    lines: list[str] = []
    away: list[Frame] = []
    newest = 0 if block.newest_first else len(block.frames) - 1
    for number, frame in enumerate(block.frames):
        is_newest = number == newest and frame.kind != OWN
        if frame.kind in shown or not frame.package or is_newest:
            lines += _counted(away)
            away = []
            lines += frame.lines
        else:
            away.append(frame)
    return lines + _counted(away)


def _counted(frames: Sequence[Frame]) -> list[str]:
    """Return one line for frames that are not shown."""
    if not frames:
        return []
    count = f"{len(frames)} frame{'s' * (len(frames) > 1)}"
    return [f"  … {count} of {_named(list(dict.fromkeys(frame.package for frame in frames)))}"]


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
