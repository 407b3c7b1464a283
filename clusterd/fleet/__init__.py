"""The brain: what there is, what is wanted, and what to do about the difference.

Pure: no I/O, no clock (time is an argument), no pid is touched. May import core only.
"""
