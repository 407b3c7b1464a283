"""The vocabulary: errors, exit codes, units, journal events, log lines.

Standard library only. Nothing here does I/O or reads a clock; every other room may import it.
"""
