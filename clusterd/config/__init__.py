"""The one table of settings, and how file, environment and command line are merged into it.

A setting is described once, as a field of a frozen dataclass in `settings`; options, environment
variables, file keys, the README and the man pages are made from that table. Nothing here acts on
a setting. May import core; anybody above may import this, and each room takes only its section.
"""
