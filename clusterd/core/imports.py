"""What clusterd says, in its log and in `clusterd check`, where workers import for themselves."""

PRICE = (
    "each worker imports for itself: it takes more memory and longer to start, and no rollback "
    "is possible"
)
PAGE = "man clusterd-importing"  # is installed with clusterd; made from docs/importing.md
DOCS = f"See '{PAGE}'."
