"""Real applications behind a real clusterd, driven by real clients.

Every framework's app offers the same routes, so that one contract is asked of all; what only one of
them has is in a file of its own. Nothing here knows how clusterd works inside.
"""
