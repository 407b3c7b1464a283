"""The only room that forks, kills, waits, maps memory or sets process state.

It decides nothing. Its twins for tests are `faulty` (fails on cue) and a fake in `tests/support`.
May import core only.
"""
