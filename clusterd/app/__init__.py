"""Bridges between the protocol engines and the application: importer, scope, exchange, lifespan.

What belongs: everything that knows what ASGI is, and nothing that knows what a socket is. The
exchange talks to its connection through the `Peer` protocol. May import wire and core; imported by
worker, and `importer` alone by zygote.
"""
