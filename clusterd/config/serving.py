"""Settings of groups that serve an application. `settings` makes the one table of all."""

from dataclasses import dataclass

from clusterd.config.kinds import Kind, setting
from clusterd.core.imports import PAGE


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Application"""

    app: str = setting(
        "",
        "The application, as module:attribute; a bare module means module:app, and "
        "module:make() calls a factory.",
        Kind.APP,
        metavar="MODULE:APP",
    )
    app_dir: str = setting(
        ".",
        "Directory that the application is imported from.",
        Kind.PATH,
        metavar="DIR",
        shown="current directory",
    )
    interface: str = setting(
        "auto",
        "What the application is: asgi, wsgi, or auto, which looks at how it can be called.",
        Kind.CHOICE,
        choices=("auto", "asgi", "wsgi"),
    )
    factory: bool = setting(
        False, "The attribute is a function that returns the application.", Kind.SWITCH
    )
    preload: str = setting(
        "auto",
        "Import once and fork workers from that image. If the import leaves behind what must not "
        f"be shared (connections, threads, locked files: '{PAGE}'), auto imports in each "
        "worker instead, with a warning, and always fails; never imports in each worker anyway.",
        Kind.CHOICE,
        choices=("auto", "always", "never"),
    )
    preload_modules: tuple[str, ...] = setting(
        (),
        "Modules to import with the application, for those that it would import at its first "
        "requests only, inside functions or lazily; 'clusterd check' lists them. May be given "
        "more than once.",
        Kind.MODULES,
        metavar="MODULE",
    )


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Listening"""

    bind: tuple[str, ...] = setting(
        ("127.0.0.1:8000",),
        "Address to listen on: HOST:PORT, [IPV6]:PORT, "
        "unix:PATH[,mode=OCTAL][,owner=USER][,group=GROUP], or fd:NUMBER "
        "or fd:NAME for a socket that systemd passes. "
        "May be given more than once. Where there is a certificate, ports speak TLS, save those "
        "with ,tls=off behind them, and Unix sockets do not.",
        Kind.ADDRESSES,
        short="-b",
        metavar="ADDRESS",
    )
    backlog: int = setting(
        2048,
        "Connections that the kernel queues for one socket.",
        Kind.COUNT,
        low=1,
        high=2**16,
    )
    balance: str = setting(
        "shared",
        "shared: one socket, and new connections go to the least busy worker. "
        "reuseport: a socket a worker, the kernel spreads by hash; for more than 32 workers.",
        Kind.CHOICE,
        choices=("shared", "reuseport"),
    )


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """HTTP"""

    keep_alive: float = setting(
        65.0, "Time that an idle connection is kept open between requests.", Kind.SECONDS
    )
    max_requests_per_connection: int = setting(
        1000,
        "Requests after which a connection is closed, over HTTP/2 so many for each of its streams; "
        "0 for no limit.",
        Kind.COUNT,
    )
    header_timeout: float = setting(
        10.0, "Time that a client may take to send a request's head.", Kind.SECONDS, low=0.1
    )
    body_timeout: float = setting(
        30.0,
        "Time that a request's body may make no progress, or come slower than 240 bytes a second.",
        Kind.SECONDS,
        low=0.1,
    )
    write_timeout: float = setting(
        30.0,
        "Time that an answer may make no progress, or be taken slower than 240 bytes a second.",
        Kind.SECONDS,
        low=0.1,
    )
    limit_request_line: int = setting(
        8192, "Longest request line; beyond it 414.", Kind.BYTES, low=64, high=2**20
    )
    limit_headers: int = setting(
        65536, "Longest block of request headers; beyond it 431.", Kind.BYTES, low=256, high=2**24
    )
    limit_fields: int = setting(
        100, "Most request headers; beyond it 431.", Kind.COUNT, low=1, high=10_000
    )
    limit_body: int = setting(0, "Longest request body; beyond it 413. 0 for no limit.", Kind.BYTES)
    max_connections: int = setting(
        1000, "Open connections that a worker holds at most.", Kind.COUNT, low=1, high=1_000_000
    )
    memory_budget: int = setting(
        0,
        "Memory that a worker holds for its clients at most; see the README. 0 is the default.",
        Kind.BYTES,
        shown="a quarter of the machine's or cgroup's memory by workers, at least 64MiB",
    )
    http2: str = setting(
        "auto",
        "HTTP/2, by ALPN under TLS and by prior knowledge without; auto is on where the package h2 "
        "is installed (the extra clusterd[h2]).",
        Kind.CHOICE,
        choices=("auto", "on", "off"),
    )
    http2_streams: int = setting(
        100,
        "Requests that one HTTP/2 connection may have in flight. Where a worker has "
        "max_connections of them, more than one of a connection are refused (REFUSED_STREAM).",
        Kind.COUNT,
        low=1,
        high=2**16,
    )
    file_extensions: bool = setting(
        False,
        "Offer ASGI's extensions http.response.pathsend and http.response.zerocopysend, by which "
        "an application has files sent by the kernel. Only for applications without middleware "
        "that looks at bodies: most that compress lose such a file, or send it uncompressed.",
        Kind.SWITCH,
    )
    server_header: bool = setting(True, "Send the header Server: clusterd.", Kind.SWITCH)


@dataclass(frozen=True, slots=True)
class WebsocketSettings:
    """WebSocket"""

    websocket_max_size: int = setting(
        16 * 2**20,
        "Longest message, after decompression; beyond it close code 1009. 0 for no limit.",
        Kind.BYTES,
    )
    websocket_ping_interval: float = setting(
        20.0, "Time between two pings; 0 sends none.", Kind.SECONDS
    )
    websocket_ping_timeout: float = setting(
        20.0, "Time that a client may take to answer a ping.", Kind.SECONDS, low=0.1
    )
    websocket_compression: bool = setting(
        True, "Accept compressed messages (permessage-deflate).", Kind.SWITCH
    )


@dataclass(frozen=True, slots=True)
class WsgiSettings:
    """WSGI"""

    threads: int = setting(
        8,
        "Threads of a worker that WSGI requests run in; 1 runs them one after another in the "
        "worker's own thread.",
        Kind.COUNT,
        low=1,
        high=1000,
    )
    limit_spool: int = setting(
        2**30,
        "Longest part of a request's body that is gathered, on disk where it is large, before a "
        "WSGI application is called; beyond it 413, or 503 where the application could be called "
        "if it had a thread to spare. 0 for no limit but spool_budget.",
        Kind.BYTES,
    )
    spool_budget: int = setting(
        0,
        "Disk that a worker takes at most for bodies that wait for a WSGI application, in the "
        "directory that TMPDIR names; beyond it 503, or 413 for a body that is larger by itself. "
        "On tmpfs bodies stay in memory (memory_budget). 0 is the default.",
        Kind.BYTES,
        shown="a quarter of the free space by workers, at least limit_spool",
    )
    request_timeout: float = setting(
        60.0,
        "Time in which a WSGI application has to read or send something, or be done, before its "
        "stack is dumped and its worker replaced; 0 for no limit.",
        Kind.SECONDS,
    )


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS"""

    tls_cert: tuple[str, ...] = setting(
        (),
        "File with a certificate and its chain, PEM; turns TLS on for TCP addresses. Several are "
        "chosen from by server name (SNI), the first where none fits.",
        Kind.PATHS,
        metavar="FILE",
        shown="none",
    )
    tls_key: tuple[str, ...] = setting(
        (),
        "File with the private key of the certificate at the same place, PEM.",
        Kind.PATHS,
        metavar="FILE",
        shown="the certificate's file",
    )
    tls_password_file: str = setting(
        "", "File whose first line is the keys' password.", Kind.PATH, metavar="FILE", shown="none"
    )
    tls_ca: str = setting(
        "",
        "File with the authorities that clients' certificates are checked against, PEM.",
        Kind.PATH,
        metavar="FILE",
        shown="none",
    )
    tls_client_cert: str = setting(
        "none",
        "Whether clients show a certificate (mutual TLS).",
        Kind.CHOICE,
        choices=("none", "optional", "required"),
    )
    tls_ciphers: str = setting(
        "",
        "Ciphers for TLS 1.2, as OpenSSL writes them.",
        Kind.WORDS,
        metavar="CIPHERS",
        shown="ECDHE+AESGCM:ECDHE+CHACHA20",
    )
    tls_min_version: str = setting(
        "1.2", "Oldest TLS to speak.", Kind.CHOICE, choices=("1.2", "1.3")
    )
    tls_handshake_timeout: float = setting(
        10.0, "Time that a client may take for the handshake.", Kind.SECONDS, low=0.1
    )


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Behind a proxy"""

    trusted_proxies: tuple[str, ...] = setting(
        ("127.0.0.1", "::1", "unix"),
        "Peers whose word about the client is taken: addresses, networks as 10.0.0.0/8, unix for "
        "Unix sockets, or * for anybody.",
        Kind.PEERS,
        metavar="PEER",
    )
    proxy_headers: str = setting(
        "x-forwarded",
        "Headers that trusted proxies tell about the client with: x-forwarded is X-Forwarded-For, "
        "-Proto, -Host and -Port; forwarded is RFC 7239's. Only what your proxy sets itself can be "
        "trusted.",
        Kind.CHOICE,
        choices=("x-forwarded", "forwarded", "off"),
    )
    proxy_host: bool = setting(
        False, "Take Host and port from those headers, too, if your proxy sets them.", Kind.SWITCH
    )
    proxy_protocol: bool = setting(
        False,
        "Every connection begins with a PROXY line or block (v1 or v2) of a trusted proxy.",
        Kind.SWITCH,
    )
    root_path: str = setting(
        "",
        "Path that the application is mounted at (SCRIPT_NAME).",
        Kind.WORDS,
        metavar="PATH",
        shown="none",
    )
