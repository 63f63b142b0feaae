"""`swarmpy container`, `swarmpy run` and their like: single containers on this node, in Docker's words."""
