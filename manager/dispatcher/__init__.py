"""Between the store and the workers: one session a worker, and what all sessions need together.

Owns the sessions, the nodes' heartbeats, the derived endpoints and the draining watermark; none of this is
stored, and a new leader rebuilds it from each session's hello. Reads tasks, services, service versions and nodes.
Writes task statuses from ACCEPTED on, node state, description and addresses, and ORPHANED.
"""
