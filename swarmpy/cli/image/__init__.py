"""`swarmpy image`, `login` and `logout`."""
