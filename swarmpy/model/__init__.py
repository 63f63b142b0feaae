"""What the cluster stores and talks about, as frozen structs.

Owns the shape of every object and the rules it must keep (`validate`). Reads and writes nothing: the
model does no I/O, has no clock and makes no ids. Everything here is shared by reference and never
changed in place; a change makes a new struct (`msgspec.structs.replace`).
"""
