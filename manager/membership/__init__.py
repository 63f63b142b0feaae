"""Who is in the group of managers that agree: joining it, leaving it, and keeping rows and Raft's members in step.

Owns `Node.manager`, `Cluster.next_raft_id` and `Cluster.feature_level`. Reads the nodes' roles, which the user decides,
and the members that Raft has. Changes go one at a time, through Raft first where somebody leaves, and through the
rows first where somebody comes: a member is never without an address.
"""
