"""The commands, and the composition root: what people type, and what is put together for it.

May import anything; nothing imports it. Commands are imported when they are called, so that a
short one is quick and the master carries nothing that it does not use.
"""
