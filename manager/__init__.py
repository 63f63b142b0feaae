"""The manager: consensus, the replicated store, the control API and, on the leader, the control loops.

`manager.py` is the composition root; `leader.py` runs what only the leader does; `DESIGN.md` has the contracts.
Imports `swarmpy` only, never `worker`.
"""
