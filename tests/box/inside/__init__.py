"""What runs in the box, as root under its systemd. Elsewhere there is nothing to collect."""
