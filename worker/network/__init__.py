"""A node's networks: every task's place in them, made from links (`link`) and packet filter tables (`nft`).

Owns `run/netns/`, `run/addresses.json` and `network/` below the state directory, and on the machine the links and
tables whose names begin with the node's key. All of it follows from task and network ids, so that a restarted worker
finds and a sweep removes what is there.
"""
