"""Beginning anew with one manager: after the quorum was lost, or from a snapshot file.

Owns the swap of the manager's log directory for one that is rebuilt (`raft.new`, `raft.old-<UTC>`), and the report in
it. Reads the order that this node's worker leaves, the present log, the snapshot file. Runs before the log is opened.
The rebuilt directory begins with a snapshot: the old state, and one transaction that makes this manager the only one.
"""
