"""A simulator of a whole Raft cluster from one seed: real members over a network, disks and clocks that go wrong.

It owns the virtual time, the faults, the clients and the checkers; what runs in it is the product's own node, log and
store. `simulation.py` puts one run together, `campaign.py` runs many, `planted.py` has bugs that it must find.
"""
