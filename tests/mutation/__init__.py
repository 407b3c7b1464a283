"""Change clusterd on purpose, one place at a time, and count how many changes the tests notice.

By hand: `python -m tests.mutation --seed N`. docs/testing.md has the figures of the last runs.
"""
