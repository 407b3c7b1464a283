"""What a running cluster shows of itself, typed and laid out for people.

Nothing here asks or decides: it is given replies and returns values and text. May import ipc and
core; the cli shows what it makes.
"""
