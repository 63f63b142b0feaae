"""Owns the agreement of managers: a replicated log of opaque entries, made durable before it is believed.

`core` decides (no I/O), `log/` stores, `node` puts the two in order, `engine` runs them on a thread of their own,
`transport/` brings messages to the other members, `driver` is the door for the manager's main loop and `gate` that for
other members' streams, and `api` says what others may use. Reads and writes its own directory only. See DESIGN.md.
"""
