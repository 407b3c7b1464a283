"""Benchmarks: each figure that clusterd promises, measured against its peers in one run.

`python -m benchmarks --help` lists the scenarios. Belongs here: what starts servers from outside,
loads them over loopback and reads `/proc`. Never: anything that imports clusterd; it is one more
row in the table of servers. Standard library only, so that any Python 3.11+ can drive a run.
"""
