"""The load benchmark: what the cluster buys over one process, measured so that it is believed.

Knows nothing of our server: it drives a URL, or a command that serves one, and whatever only our
own server can tell reaches it through `insight`. Imports wire and core; only the cli imports it.
Needs the extra clusterd[bench]: hdrhistogram, and matplotlib for pictures.
"""
