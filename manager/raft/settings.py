"""What a member is told once, beside what its core is told: how it keeps its log, and how its thread is run."""

from __future__ import annotations

from dataclasses import dataclass, field

from manager.raft.config import CoreConfig
from manager.raft.log.wal import DEFAULT_SEGMENT_BYTES


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How a member keeps its log.

    Args:
        segment_bytes: size of a log segment.
        keep_entries: entries kept behind a snapshot, for followers that are a little late.
        max_entry_bytes: largest proposal.
        backlog_bytes: committed data that may wait to be applied; beyond it, entries and proposals are turned away.
        core: time-outs and bounds of the core.
    """

    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    keep_entries: int = 500
    max_entry_bytes: int = 16 * 1024 * 1024
    backlog_bytes: int = 64 * 1024 * 1024
    core: CoreConfig = field(default_factory=CoreConfig)


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """How the Raft thread is run.

    Args:
        tick_s: length of a tick, seconds.
        max_pending: proposals under way at once; more are refused.
        max_pending_bytes: their data together.
        max_frame_bytes: proposals and messages are put into one frame until it holds this much.
        switch_interval_s: how long a thread may keep Python's lock while another wants it, for the whole process
            while the log runs; None leaves it (5 ms, which a proposal would wait on a busy main loop).
        node: how the member keeps its log.
    """

    tick_s: float = 0.1
    max_pending: int = 8192
    max_pending_bytes: int = 64 * 1024 * 1024
    max_frame_bytes: int = 1024 * 1024
    switch_interval_s: float | None = 0.0005
    node: NodeConfig = field(default_factory=NodeConfig)
