"""Mutation fuzzing of whole connections: `python -m tests.fuzz --minutes 3`.

Streams that are proper, or nearly, are damaged where it hurts (lines, numbers, lengths, frames) and
fed to a real connection on a transport that is none. A new protocol is one more `Target`.
"""
