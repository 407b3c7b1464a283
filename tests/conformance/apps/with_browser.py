"""A page with an event stream and a WebSocket that come back, and tell the test what they saw."""

import asyncio
import os

from tell import tell  # type: ignore[import-not-found]

PAGE = b"""<!doctype html><title>numbers</title><script>
// What each of the two last heard is said once for each process that it heard it from.
const heard = {};
function hear(what, text) {
  const [pid, number] = text.split(" ");
  if (heard[what] !== pid) {
    heard[what] = pid;
    fetch("/report", {method: "POST", body: `${what} ${pid} ${number}`});
  }
}
const events = new EventSource("/events");
events.onmessage = (event) => hear("events", event.data);
let last = 0;
function connect() {
  const socket = new WebSocket(`ws://${location.host}/socket?${last}`);
  socket.onmessage = (event) => {
    last = Number(event.data.split(" ")[1]);
    hear("socket", event.data);
  };
  socket.onclose = (event) => {
    fetch("/report", {method: "POST", body: `closed ${event.code} ${event.wasClean}`});
    setTimeout(connect, 50);
  };
}
connect();
</script>"""


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await socket(scope, receive, send)
    elif scope["type"] == "http":
        await ROUTES.get(scope["path"], missing)(scope, receive, send)
    else:
        raise NotImplementedError(scope["type"])


async def answer(send, status, body, kind=b"text/plain"):
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def page(scope, receive, send):
    await answer(send, 200, PAGE, b"text/html")


async def missing(scope, receive, send):
    await answer(send, 404, b"")


async def report(scope, receive, send):
    tell((await receive())["body"].decode())
    await answer(send, 204, b"")


async def present(receive):
    """Whether the client is still there after a while."""
    try:
        return "disconnect" not in (await asyncio.wait_for(receive(), 0.05))["type"]
    except TimeoutError:
        return True


async def events(scope, receive, send):
    """Numbers from where the browser says it stopped, until it leaves or the worker does."""
    drain = scope["extensions"]["clusterd.drain"]
    number = int(dict(scope["headers"]).get(b"last-event-id", 0))
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    data = b"retry: 50\n\n"
    while drain["left"]() is None:
        await send({"type": "http.response.body", "body": data, "more_body": True})
        if not await present(receive):
            return
        number += 1
        data = f"id: {number}\ndata: {os.getpid()} {number}\n\n".encode()
    await send({"type": "http.response.body", "body": b""})


async def socket(scope, receive, send):
    number = int(scope["query_string"] or 0)
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while await present(receive):
            number += 1
            await send({"type": "websocket.send", "text": f"{os.getpid()} {number}"})
    except OSError:
        pass  # closed for us, since the worker leaves


ROUTES = {"/": page, "/report": report, "/events": events}
