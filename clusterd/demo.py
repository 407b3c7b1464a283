"""A small ASGI application to try clusterd with: `clusterd run clusterd.demo:app`.

Standard library only. The page asks `/who` over and over, on a fresh connection each time, and
shows which workers answer: kill one, reload, scale, and watch.
"""

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LONGEST = 20.0  # seconds that /slow may take: shorter than the default graceful_timeout
TITLE = re.compile(r"worker (\d+) g(\d+)")
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>clusterd demo</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto }
  table { border-collapse: collapse; width: 100% }
  th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #8884 }
  tr.now { background: #8be8 }
  code { background: #8882; padding: .1rem .3rem }
</style>
<h1>clusterd demo</h1>
<p>Each row is a worker that answered this page. Failed requests: <b id="failed">0</b>.</p>
<table>
  <thead><tr><th>slot<th>generation<th>pid<th>answers</tr></thead>
  <tbody id="workers"></tbody>
</table>
<p>Try <code>kill -9 PID</code>, <code>clusterd reload --wait</code>,
<code>clusterd scale +1</code> and <code>clusterd status</code> meanwhile.</p>
<script>
  const seen = new Map()
  let failed = 0
  async function ask() {
    try {
      const who = await (await fetch("who", {cache: "no-store"})).json()
      const one = seen.get(who.pid) || {...who, answers: 0}
      one.answers += 1
      seen.set(who.pid, one)
      show(who.pid)
    } catch (error) {
      document.getElementById("failed").textContent = ++failed
    }
    setTimeout(ask, 100)
  }
  function show(now) {
    const rows = [...seen.values()].sort((a, b) => a.slot - b.slot || a.pid - b.pid)
    document.getElementById("workers").innerHTML = rows.map(w =>
      `<tr class="${w.pid === now ? "now" : ""}"><td>${w.slot ?? "-"}<td>${w.generation ?? "-"}` +
      `<td>${w.pid}<td>${w.answers}</tr>`).join("")
  }
  ask()
</script>
"""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The application: `/`, `/who`, and `/slow?seconds=5`."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        await answer(scope, send)


async def lifespan(receive: Receive, send: Send) -> None:
    """Nothing to open and nothing to close, said properly."""
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": message["type"] + ".complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def answer(scope: Scope, send: Send) -> None:
    """One request."""
    path = scope["path"]
    if path == "/":
        await reply(send, 200, "text/html; charset=utf-8", PAGE)
    elif path == "/who":
        await reply(send, 200, "application/json", json.dumps(who()))
    elif path == "/slow":
        await asyncio.sleep(_seconds(scope["query_string"]))
        await reply(send, 200, "application/json", json.dumps(who()))
    else:
        await reply(send, 404, "text/plain", "There are /, /who and /slow?seconds=5.\n")


def who() -> dict[str, int | None]:
    """Which worker this is, by the title that clusterd gives its process."""
    title = Path("/proc/self/cmdline").read_bytes().decode("utf-8", "replace")
    match = TITLE.search(title)
    slot, generation = (int(match[1]), int(match[2])) if match else (None, None)
    return {"pid": os.getpid(), "slot": slot, "generation": generation}


def _seconds(query: bytes) -> float:
    try:
        asked = float(parse_qs(query.decode("ascii", "replace")).get("seconds", ["5"])[0])
    except ValueError:
        return 5.0
    return min(max(asked, 0.0), LONGEST) if asked == asked else 5.0  # NaN is not itself


async def reply(send: Send, status: int, kind: str, text: str) -> None:
    """A whole answer. It closes the connection, so that the next may go to another worker."""
    body = text.encode()
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
