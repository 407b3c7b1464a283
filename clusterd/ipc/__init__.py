"""How processes speak: messages, channel, scoreboard, journal, the control protocol and its client.

Nothing here decides anything. May import kernel and core.
"""
