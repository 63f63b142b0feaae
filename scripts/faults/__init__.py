"""Real managers under faults: rounds drawn from a seed, clients that keep a history, and a verdict on it.

    python -m scripts.faults [--rounds N | --minutes M] [--seed S] [--managers 3|5]

A round starts a cluster of its own, lets clients write and read through all of its managers while the nemesis kills,
freezes, cuts, fills and moves them, heals everything, waits until the cluster rests, and then judges: what clients
were told is linearizable, nothing acknowledged is lost, each request has taken effect once, and all managers hold the
same state. Owns the managers' processes, and as root network namespaces and small file systems; leaves nothing of
them behind. The simulator (`scripts.sim`) tries far more schedules of the same core; this tries real processes,
sockets and disks.
"""
