"""The worker: this node's identity, its session with the managers, and the tasks that run here.

`worker.py` is the composition root; `member.py` is what exists only while the node is in a cluster; `DESIGN.md` has
the contracts of all of the node's processes. Imports `swarmpy` only, never `manager`.
"""
