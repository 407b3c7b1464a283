"""The page in a real browser: its pictures are drawn, in either light, and it asks for nothing."""

import base64
import io
import socket
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy
import pytest

from clusterd.bench import canvas, html, pictures
from clusterd.bench.results import Report
from tests.support import reports
from tests.support.chromium import CHROMIUM, Tab, tab

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

# Each picture's size, and how many of its shapes have one.
DRAWN = """[...document.querySelectorAll('figure svg')].map(svg => [
    svg.getBoundingClientRect().width,
    svg.getBoundingClientRect().height,
    [...svg.querySelectorAll('path, use')].filter(one => {
        const box = one.getBoundingClientRect();
        return box.width > 0 && box.height > 0;
    }).length,
])"""
# Words of a picture that lie on others, or beyond its edge.
COLLIDING = """[...document.querySelectorAll('figure svg')].flatMap(svg => {
    const frame = svg.getBoundingClientRect();
    const words = [...svg.querySelectorAll('text')].filter(one => one.textContent.trim())
        .map(one => [one.textContent, one.getBoundingClientRect()]);
    return words.flatMap(([text, a], number) => [
        ...(a.left < frame.left - 1 || a.right > frame.right + 1 ? [text + ' is cut off'] : []),
        ...words.slice(number + 1).filter(([, b]) =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
            Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4
        ).map(([other]) => text + ' × ' + other),
    ]);
})"""


def stored(folder: Path, report: Report, name: str = "page.html", more: str = "") -> str:
    """The report as a file. `more` is put into the page as it is. Returns its URL."""
    text = html.page(report, pictures.draw(report), canvas.variables(":root"))
    path = folder / name
    path.write_text(text.replace("</main>", f"{more}</main>"))
    return path.as_uri()


def shades(page: Tab, light: str) -> set[int]:
    """The colours of the page, as a reader sees it who prefers that light."""
    feature = {"name": "prefers-color-scheme", "value": light}
    page.ask("Emulation.setEmulatedMedia", media="screen", features=[feature])
    shot = page.ask("Page.captureScreenshot", captureBeyondViewport=True)
    dots = matplotlib.image.imread(io.BytesIO(base64.b64decode(shot["data"])))
    red, green, blue = ((dots[..., part] * 255).round().astype(int) for part in range(3))
    return set(map(int, numpy.unique(red << 16 | green << 8 | blue)))


def rgb(colour: str) -> int:
    return int(colour.removeprefix("#"), 16)


def asked(page: Tab) -> list[str]:
    """The addresses that were asked for, beside the page itself; not those that it may not ask."""
    kept = {one["requestId"] for one in of(page, "loadingFailed") if "blockedReason" in one}
    wanted = [one for one in of(page, "requestWillBeSent") if one["requestId"] not in kept]
    urls = [one["request"]["url"] for one in wanted]
    return [url for url in urls if not url.startswith(("file:", "data:"))]


def refused(page: Tab) -> set[str]:
    """Why it was not allowed to ask."""
    return {one.get("blockedReason", one["errorText"]) for one in of(page, "loadingFailed")}


def of(page: Tab, event: str) -> list[dict[str, Any]]:
    """What the network said."""
    return [one["params"] for one in page.events if one["method"] == f"Network.{event}"]


@pytest.mark.timeout(150)  # drawing all of them takes a busy machine a while
def test_the_page_shows_its_pictures_and_asks_for_nothing(tmp_path: Path) -> None:
    """Every kind of picture, with two sides and with eight; whatever a name or an error says."""
    with socket.socket() as nobody, tab(tmp_path) as page:
        nobody.bind(("127.0.0.1", 0))  # and does not listen: who asks is refused at once
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}/away"
        ladders = (reports.ladder_of_connections, reports.ladder_of_rates)
        for number, make in enumerate((reports.crowded, *ladders, reports.chaos)):
            made = make()
            made.sides[0].command = f"<img src={away}>"
            page.open(stored(tmp_path, made, f"{number}.html"))
            sizes = page.evaluate(DRAWN)
            assert len(sizes) >= 3
            assert all(width > 400 and height > 50 and many > 3 for width, height, many in sizes)
            assert page.evaluate(COLLIDING) == []
            assert page.evaluate("document.querySelectorAll('script, img, iframe').length") == 0
            assert asked(page) == []
        light, dark = shades(page, "light"), shades(page, "dark")
        for name in ("ground", "side-1", "bad"):
            assert rgb(canvas.COLOURS[name][0]) in light - dark
            assert rgb(canvas.COLOURS[name][1]) in dark - light

        # Were something to slip through, the page's own policy would still keep it from asking.
        slipped = f"<img id=slipped src={away}><script>document.title='ran'</script>"
        page.open(stored(tmp_path, reports.report(), more=slipped))
        assert page.evaluate("document.getElementById('slipped').naturalWidth") == 0
        assert page.evaluate("document.title") != "ran"
        assert asked(page) == []
        assert refused(page) == {"csp"}
