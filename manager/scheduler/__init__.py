"""Gives each pending task a node: filters say where it may go, the order says where it goes.

Owns `node_id`, the step from PENDING to ASSIGNED and `pending_reason`. Reads nodes, tasks and service versions.
`fleet` holds what is known of the nodes, `filters` and `place` decide purely, `loop` acts.
"""
