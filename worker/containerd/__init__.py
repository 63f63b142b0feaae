"""Talks to containerd: a typed client of its gRPC API, what the node found of it, and the end of its containers.

Owns the choice of the storage driver and its record, `containerd/driver`. Reads `run/containerd.json`, in which
swarmpyd says which containerd this node uses. Protobuf does not leave this room: in and out go the dataclasses of
`types.py`, and every failure is a SwarmError.
"""
