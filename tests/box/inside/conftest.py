"""Only in the box is there anything to collect."""

from pathlib import Path

collect_ignore_glob = [] if Path("/box/command").exists() else ["test_*.py"]
