"""The images of a node."""
