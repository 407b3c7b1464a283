"""The terminal of `clusterd top`: curses shows the page and names the keys."""

import contextlib
import curses
import locale
import queue
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from clusterd.cli.feed import Feed, News
from clusterd.core.stacks import fold
from clusterd.core.terminal import clean
from clusterd.observe.keys import View, press
from clusterd.observe.rates import WINDOW
from clusterd.observe.top import Line, Page, Style, draw, rows

TICK = 100  # ms until news are looked for again while no key is pressed
READ = 40  # ticks that a message stays
KEYS = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_PPAGE: "page up",
    curses.KEY_NPAGE: "page down",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_ENTER: "enter",
    ord("\n"): "enter",
    ord("\r"): "enter",
    ord("\t"): "tab",
    27: "escape",
}
COLOURS = {Style.GOOD: curses.COLOR_GREEN, Style.WARN: curses.COLOR_YELLOW,
           Style.BAD: curses.COLOR_RED}  # fmt: skip
PLAIN = {Style.STRONG: curses.A_BOLD, Style.DIM: curses.A_DIM, Style.WARN: curses.A_BOLD,
         Style.BAD: curses.A_BOLD, Style.CHOSEN: curses.A_REVERSE}  # fmt: skip
Looks = Mapping[Style, int]


def show(feed: Feed, page: Page, has_colours: bool) -> None:
    """Until the person leaves. The terminal is put back whatever happens."""
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "")  # for what is not ASCII in stacks
    signal.signal(signal.SIGTERM, _leave)
    curses.set_escdelay(25)  # ms in which what follows ESC belongs to one key
    feed.start()
    curses.wrapper(_run, feed, page, has_colours)


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _run(window: "curses.window", feed: Feed, page: Page, has_colours: bool) -> None:
    with contextlib.suppress(curses.error):
        curses.curs_set(0)
    looks = _looks(has_colours)
    window.timeout(TICK)
    view, fresh, quiet = View(), True, 0
    while not view.over:
        if fresh:
            _paint(window, draw(page, view, *_size(window)), looks)
        code = window.getch()
        page, view, fresh = _heard(feed, page, view)
        quiet = quiet + 1 if code == -1 and view.message else 0
        if quiet > READ:
            view, fresh, quiet = view._replace(message=""), True, 0
        if code == -1:
            continue
        fresh = True
        if code == curses.KEY_RESIZE:
            curses.update_lines_cols()
            window.clear()
            continue
        key = KEYS.get(code) or (chr(code) if 32 <= code < 127 else "")
        view, order = press(view, key, page.shot, [row.worker for row in rows(page, view)])
        if order is not None:
            feed.order(order)


def _size(window: "curses.window") -> tuple[int, int]:
    height, width = window.getmaxyx()
    return width, height


def _heard(feed: Feed, page: Page, view: View) -> tuple[Page, View, bool]:
    """The page with all news so far."""
    fresh = False
    with contextlib.suppress(queue.Empty):
        while True:
            page, view = _told(feed.news.get_nowait(), page, view)
            fresh = True
    return page, view, fresh


def _told(news: News, page: Page, view: View) -> tuple[Page, View]:
    if news.shot is not None:
        return page._replace(history=kept([*page.history, news.shot]), trouble=""), view
    if news.memory is not None:
        return page._replace(memory=news.memory), view
    if news.dumps is not None:
        return page, view._replace(text=stacks(news.dumps, view.selected), top=0, message="")
    if news.trouble:
        return page._replace(trouble=news.trouble), view
    return page, view._replace(message=news.said)


def kept(history: Sequence[Any]) -> Sequence[Any]:
    """What rates need: the last one, and those back to the youngest that is old enough."""
    now = history[-1].uptime
    old = [n for n, shot in enumerate(history) if now - shot.uptime >= WINDOW]
    return history[old[-1] if old else 0 :][-100:]


def stacks(dumps: Sequence[Mapping[str, Any]], first: int) -> list[str]:
    """Stacks as lines, those of the worker with pid `first` at the top."""
    lines: list[str] = []
    for one in sorted(dumps, key=lambda dump: (dump.get("pid") != first, dump.get("slot") or 0)):
        lines.append(f"worker={one.get('slot')} gen={one.get('generation')} pid={one.get('pid')}")
        lines += [clean(line) for line in fold(str(one.get("text", "")))] + [""]
    return lines or ["no worker could be asked"]


def _looks(has_colours: bool) -> Looks:
    """How each style looks on this terminal."""
    if not has_colours or not curses.has_colors():
        return PLAIN
    curses.use_default_colors()
    looks = dict(PLAIN)
    for number, (style, colour) in enumerate(COLOURS.items(), 1):
        curses.init_pair(number, colour, -1)
        looks[style] = curses.color_pair(number)
    return looks


def _paint(window: "curses.window", lines: Sequence[Line], looks: Looks) -> None:
    window.erase()
    for y, line in enumerate(lines):
        x = 0
        for span in line:
            text = clean(span.text)
            with contextlib.suppress(curses.error):  # the last cell of the last line is refused
                window.addstr(y, x, text, looks.get(span.style, 0))
            x += len(text)
    window.refresh()
