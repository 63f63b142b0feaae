"""A node's networks: every task's place in them, made from links (`link`) and packet filter tables (`nft`).

Owns `run/netns/`, `run/addresses/`, `run/wiring/` and `network/` below the state directory, and on the machine links
and tables whose names begin with the node's key. All of it follows from task and network ids: a restarted worker
finds and a sweep removes what is there. Reads the endpoints' updates (`following`); tells the data plane where to serve
names. `wiring`, `view`, `reach` and `resolver` are pure; `machine` and `balancing` change the kernel on one thread
(`opening`), and are loaded when the first task needs them.
"""
