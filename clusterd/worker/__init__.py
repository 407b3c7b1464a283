"""The life of a worker: accept, connections, deadlines, drain, pulse, access log.

What belongs: everything that one worker process does with sockets and time. What never does: the
syntax of HTTP (wire), what ASGI demands (app), any other process (master). May import app, wire,
ipc, kernel, config and core; imported by the entry file and cli alone.
"""
