"""Owns the agreement of managers: a replicated log of opaque entries, made durable before it is believed.

`core` decides (no I/O), `log/` stores, `node` puts the two in order, `engine` runs them on a thread of their own,
`driver` is the door for the manager's main loop, and `api` says what others may use. See DESIGN.md.
"""
