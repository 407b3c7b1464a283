"""Protocol engines: bytes in, requests out; and the bytes of answers. PURE: no socket, no loop,
no clock, no log.

What belongs: the syntax of HTTP, its limits, and which status a malformed request earns. What
never does: ASGI, connections, time. May import core; imported by app and worker.
"""
