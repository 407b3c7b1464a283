"""The hands: one blocking wait, facts in, actions out. It decides nothing that the plan decides.

No threads, no asyncio, no psutil, no application code, no HTTP. May import fleet, ipc, kernel,
config and core.
"""
