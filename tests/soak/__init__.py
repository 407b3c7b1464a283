"""Random operations on a real cluster under load, judged by what clusterd promises.

`operations` is what may be done, `judges` what must hold after each, `world` the cluster with its
clients, `drive` the runs: seeded, recorded as JSON lines, replayed, and made shorter when one
fails.
"""
