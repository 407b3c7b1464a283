"""What is asked of a server, and how hard: plain data, the same in every process of a run."""

from dataclasses import dataclass

CLOSED_LOOP, OPEN_LOOP = "closed", "open"
HTTP, WEBSOCKET, SSE = "http", "websocket", "sse"


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. `scheme` is http, https, ws or wss."""

    scheme: str
    host: str
    port: int
    path: str = "/"  # with its query
    unix: str = ""  # a socket's path, instead of host and port
    verify: bool = True  # the server's certificate
    ca_file: str = ""  # authorities to trust instead of the system's

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme in ("https", "wss")


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request. Of several, each takes its weight's share."""

    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """How hard, for one turn and all generators together.

    Closed loop: each of `connections` asks again as soon as it is answered. Open loop (`rate` is
    set): requests are due by schedule, 1 / rate apart, whatever became of those before; latency
    counts from when a request was due, also while it waits for one of `connections` to be free.
    """

    requests: tuple[Request, ...] = (Request(),)
    connections: int = 64
    rate: float = 0.0  # requests a second; 0 is the closed loop
    duration: float = 10.0  # seconds, the warm-up with it
    protocol: str = HTTP
    fresh: bool = False  # a new connection for every request
    pipeline: int = 1  # requests under way on a connection at once (closed loop)
    timeout: float = 10.0  # seconds until an answer is given up
    slow: float = 0.0  # share of requests sent by slow clients, 0 to 1
    slow_for: float = 1.0  # seconds that a slow client takes to send its request
    message: int = 100  # bytes of a WebSocket message

    @property
    def model(self) -> str:
        """CLOSED_LOOP or OPEN_LOOP."""
        return OPEN_LOOP if self.rate else CLOSED_LOOP
