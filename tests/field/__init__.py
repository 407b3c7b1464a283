"""Real applications and libraries on real clusters: run with `-m field`, extra `field`."""
