"""Owns the way between members: gRPC streams over mutual TLS, each end named by its certificate.

`links` dials the others from the Raft thread, `servicer` is the other end, on the manager's one server; `snapshots`
carries what is too large for a message. `wire` alone knows both Raft's words and protobuf, `hello` who may speak.
"""
