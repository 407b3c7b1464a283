"""What clusterd says, in its log and in `clusterd check`, where workers import for themselves."""

PRICE = (
    "each worker imports for itself: it takes more memory and longer to start, and no rollback "
    "is possible"
)
DOCS = "See docs/importing.md."
