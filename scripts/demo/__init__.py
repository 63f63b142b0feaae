"""`make demo`: a cluster on this machine, driven by the commands that a person would type, and checked at every step.

Owns the nodes that it starts, at 127.0.0.1 and the addresses after it, and their temporary directory.
"""
