"""Owns a member's directory: `wal/` (segments of synced frames) and `snap/` (one snapshot); data is opaque to it.

Reads and writes disk through `disk.Disk` only, but for the key's file (`key_file`). `storage` is the door; `wal`
appends, `replay` reads at start, `contents` says what records add up to and what may follow, `frame`, `segment` and
`records` are the formats, `crypt` seals, `snapshot_file` holds the snapshots, `faults` the errors' words.
"""
