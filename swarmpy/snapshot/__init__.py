"""Snapshot files that people keep: the whole state of a cluster, portable between releases and machines.

Owns the format of the file, how it is written so that it is whole or not there, and how a damaged one is told from a
sound one. The state inside is opaque here; `manager.store` makes and reads it. Reads and writes the one file that it
is given. The file holds the cluster's root key and join tokens, so it is made for its owner only.
"""
