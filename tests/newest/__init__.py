"""The suite on Pythons that this machine has not: 3.14 and 3.15, of Debian forky.

`rig` makes the root they live in, `test_newest` runs tests there (`-m newest`), and
`python -m tests.newest VERSION COMMAND…` runs anything else.
"""
