"""What the workloads' requests do, whatever the server's interface: `work` and `work_wsgi` call it.

The template is compiled and the file of the shop made when this is imported, once a cluster; each
thread that serves opens a connection of its own to that file, after the fork.
"""

import json
import os
import sqlite3
import tempfile
import threading
from pathlib import Path

from jinja2 import DictLoader, Environment

HELLO = b"Hello, world!"
ITEMS, REVIEWS = 1000, 8
PIECES = [bytes([number]) * 1024 for number in range(48, 148)]  # a stream: 100 times 1 KiB
WAIT = 0.020  # seconds that `await20` waits
BLOCK = 0.020  # seconds that a slow request of `mixed` holds its worker
# Whoever drives says what amounts to 5 ms of CPU time there (see `workloads`): the same work for
# all that are compared, however fast they get it done.
SPINS = int(os.environ.get("WORK_SPINS", "40000"))
KEPT = Path(__file__).resolve().parents[2] / ".bench" / "shop-1.sqlite"
SHOP = Path(os.environ.get("WORK_SHOP", KEPT)).absolute()

LAYOUT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{% block title %}{% endblock %}</title></head>
<body><nav>{% for name, path in menu %}<a href="{{ path }}">{{ name }}</a>{% endfor %}</nav>
<main>{% block main %}{% endblock %}</main></body></html>"""
PAGE = """{% extends "layout" %}
{% block title %}{{ customer }}: {{ orders|length }} orders{% endblock %}
{% block main %}<table>{% for order in orders %}
<tr class="{{ loop.cycle('odd', 'even') }}"><td>{{ order.number }}</td><td>{{ order.what|title }}
</td><td>{{ "%.2f"|format(order.price) }}</td><td>{% if order.paid %}paid{% else %}open{% endif %}
</td></tr>{% endfor %}</table>
<p>{{ orders|map(attribute="price")|sum|round(2) }}</p>{% endblock %}"""
ORDERS = [
    {"number": number, "what": f"nuts & bolts, box {number}", "price": number * 1.25, "paid": True}
    for number in range(1, 41)
]
MENU = [("Orders", "/orders"), ("Invoices", "/invoices"), ("Help & contact", "/help")]
_template = Environment(
    loader=DictLoader({"layout": LAYOUT, "page": PAGE}), autoescape=True
).get_template("page")
_kept = threading.local()


def make_shop(path: Path) -> None:
    """A file with items and their reviews; made whole or not at all, and never changed again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    os.close(handle)
    shop = sqlite3.connect(name)
    try:
        shop.executescript("""
            create table item (id integer primary key, name text, price real, about text);
            create table review (item integer, stars integer, text text);
        """)
        items = [(n, f"item {n}", n * 0.5, "of the best kind " * 5) for n in range(1, ITEMS + 1)]
        shop.executemany("insert into item values (?, ?, ?, ?)", items)
        reviews = [(n % ITEMS + 1, n % 5 + 1, "as it was told") for n in range(ITEMS * REVIEWS)]
        shop.executemany("insert into review values (?, ?, ?)", reviews)
        shop.execute("create index of_item on review (item)")
        shop.commit()
    finally:
        shop.close()
    os.chmod(name, 0o644)  # workers may run as somebody else
    os.replace(name, path)


def connected() -> sqlite3.Connection:
    """This thread's connection to the shop: with one thread a worker, one connection a worker."""
    shop: sqlite3.Connection | None = getattr(_kept, "shop", None)
    if shop is None:
        shop = _kept.shop = sqlite3.connect(f"{SHOP.as_uri()}?mode=ro", uri=True)
    return shop


def item(number: int) -> bytes:
    """An item with its reviews, as JSON; `null` where there is none."""
    shop = connected()
    found = shop.execute("select id, name, price, about from item where id = ?", (number,))
    row = found.fetchone()
    if row is None:
        return b"null"
    reviews = shop.execute("select stars, text from review where item = ?", (number,)).fetchall()
    document = dict(zip(("id", "name", "price", "about"), row, strict=True))
    document["stars"] = sum(stars for stars, _ in reviews) / len(reviews)
    document["reviews"] = [{"stars": stars, "text": text} for stars, text in reviews]
    return json.dumps(document).encode()


def page() -> bytes:
    """A page of 40 orders, from a template with a layout; everything escaped."""
    return _template.render(customer="Fox & Sons", orders=ORDERS, menu=MENU).encode()


def compute() -> bytes:
    """A fixed amount of work for the interpreter; what it comes to."""
    total = 0
    for number in range(SPINS):
        total = (total * 31 + number) & 0xFFFF
    return str(total).encode()


if not SHOP.exists():
    make_shop(SHOP)
