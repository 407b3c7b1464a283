"""What a person does at `clusterd top`: keys change the view, or order something. Pure."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from clusterd.observe.snapshot import MAIN, Snapshot, WorkerView

SORTS = ("slot", "requests", "busy", "p99", "cpu", "memory")  # by what rows can be sorted
PAGE = 10  # rows or lines that a page key moves


class Order(NamedTuple):
    """What is to be asked of the cluster."""

    command: str
    args: dict[str, Any]


class View(NamedTuple):
    """What the person has chosen to see."""

    selected: int = 0  # pid of the chosen worker; 0: none
    group: str = ""  # the chosen group; '': the first
    sort: str = SORTS[0]
    helps: bool = False
    text: Sequence[str] = ()  # shown instead of the workers, e.g. stacks
    top: int = 0  # first line of it that is shown
    pending: Order | None = None  # asked for, and to be confirmed
    question: str = ""
    message: str = ""
    over: bool = False


def press(
    view: View, key: str, shot: Snapshot | None, rows: Sequence[WorkerView]
) -> tuple[View, Order | None]:
    """The view after a key, and what to ask of the cluster. `rows` are as they are shown."""
    view = view._replace(message="")
    if view.pending is not None:
        order = view.pending if key in ("y", "Y", "enter") else None
        said = "" if order else "not done"
        return view._replace(pending=None, question="", message=said), order
    if key in ("q", "Q", "escape"):
        if view.text or view.helps:
            return view._replace(text=(), top=0, helps=False), None
        return view._replace(over=key != "escape"), None
    if key in ("h", "?"):
        return view._replace(helps=not view.helps, text=()), None
    if view.text:
        return _scrolled(view, key), None
    if key in MOVES:
        return _moved(view, MOVES[key], rows), None
    if shot is None:
        return view, None
    return _steered(view, key, shot)


MOVES = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -PAGE, "page down": PAGE,
         "home": -(10**6), "end": 10**6}  # fmt: skip


def _scrolled(view: View, key: str) -> View:
    top = min(max(0, view.top + MOVES.get(key, 0)), max(0, len(view.text) - 1))
    return view._replace(top=top)


def _moved(view: View, by: int, rows: Sequence[WorkerView]) -> View:
    """Another row is chosen, and with it its group."""
    if not rows:
        return view
    pids = [row.pid for row in rows]
    start = pids.index(view.selected) if view.selected in pids else (-1 if by > 0 else len(rows))
    at = start + by
    row = rows[min(max(0, at), len(rows) - 1)]
    return view._replace(selected=row.pid, group=row.group)


def _steered(view: View, key: str, shot: Snapshot) -> tuple[View, Order | None]:
    """Keys that ask something of the cluster, or of what is shown of it."""
    group = chosen(view, shot)
    several = {"group": group} if len(shot.groups) > 1 else {}
    if key == "s":
        return view._replace(sort=SORTS[(SORTS.index(view.sort) + 1) % len(SORTS)]), None
    if key in ("tab", "g"):
        names = [one.name for one in shot.groups] or [group]
        following = names[(names.index(group) + 1) % len(names)] if group in names else names[0]
        return view._replace(group=following, selected=0), None
    if key == "+":
        return view, Order("scale", {"by": 1, **several})
    if key == "-":
        fewer = Order("scale", {"by": -1, **several})
        return _confirmed(view, fewer, f"one worker fewer in {group}?")
    if key == "r":
        what = f"{group}: roll" if several else "roll"
        return _confirmed(view, Order("reload", several), f"{what} in new code and settings?")
    if key == "R":
        return _restarted(view, shot)
    if key == "d":
        return view._replace(message="asking the workers where they are"), Order("dump", several)
    return view, None


def _restarted(view: View, shot: Snapshot) -> tuple[View, None]:
    """The chosen worker is to be replaced."""
    row = next((one for one in shot.workers if one.pid == view.selected), None)
    if row is None:
        return view._replace(message="choose a worker first: up, down"), None
    order = Order("restart", {"slot": row.slot, "group": row.group})
    return _confirmed(view, order, f"replace worker {row.slot} of {row.group}?")


def _confirmed(view: View, order: Order, question: str) -> tuple[View, None]:
    return view._replace(pending=order, question=question), None


def chosen(view: View, shot: Snapshot) -> str:
    """The group that keys speak of."""
    names = [one.name for one in shot.groups]
    return view.group if view.group in names else (names[0] if names else MAIN)


HELP = (
    "up, down, page up, page down   choose a worker, and with it its group",
    "tab   choose the next group",
    "s   sort by slot, requests, busy, p99, CPU, memory in turn",
    "+   one worker more in the chosen group",
    "-   one worker fewer, once confirmed",
    "r   reload: roll in new code and settings, once confirmed",
    "R   restart: replace the chosen worker, the new one first, once confirmed",
    "d   dump: where each worker is in the code right now, the chosen one first",
    "h   this help        q   leave",
    "",
    "REQ/S   answers a second          BUSY   requests in flight",
    "P50, P99   time within which half of the answers, and 99 of 100, were given",
    "LAG   how late the worker's event loop was; grows when something blocks it",
    "CPU   100% keeps one CPU busy     PSS   memory, with its share of what is shared",
    "RST   restarts of the slot that nobody asked for",
)
