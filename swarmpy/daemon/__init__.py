"""The supervisor of a node, `swarmpyd`, and what the node's standard-library processes share.

Owns the state directory itself: `lock`, `node.json` (role, addresses, boot id) and `run/` (sockets, pid
records, orphans' exits). Reads the kernel's boot id and `/proc`. Imports the standard library only, and
little of that: a supervisor that is small and simple is one that stays up.
"""
