"""One process a generation: it imports the application once, judges whether forking is safe,
and forks workers on order. It serves nothing and runs no event loop.

May import app.importer, ipc, kernel, config and core; the worker's main is handed to it.
"""
