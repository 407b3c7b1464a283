"""One process a slot of a command group: it runs the program as its child, says when that is
ready, passes on its output, and ends it. Plain waiting, no threads, no loop of asyncio. Imports
ipc, kernel, config and core; only the entry file of a fresh child imports this.
"""
