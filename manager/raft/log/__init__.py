"""Owns a member's directory: `wal/` (segments of synced frames) and `snap/` (one snapshot); data is opaque to it.

Reads and writes disk through `disk.Disk` only. `storage` is the door; `wal` appends, `replay` reads at start,
`frame` and `records` are the formats, `snapshot_file` the snapshots, `faults` the errors' words.
"""
