"""Tests that run inside a machine of their own, whose process 1 is a real systemd.

`rig` makes and boots it, `inside/` holds the tests that run in there as root, `test_box` runs them
from outside, and `python -m tests.box COMMAND…` runs anything else.
"""
