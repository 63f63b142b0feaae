"""`swarmpy service`: flags to specs (pure), and the commands that send and show them."""
