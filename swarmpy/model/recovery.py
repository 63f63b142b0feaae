"""What a node's worker leaves for its manager that is to begin anew, and what the manager answers; files on disk."""

from __future__ import annotations

import enum
from typing import Final

from swarmpy.model.base import Model

ORDER_FILE: Final = "recover.msgpack"  # in the manager's directory
STATE_FILE: Final = "restore.snapshot"  # there, too: the snapshot that a restoring order is about
REPORT_FILE: Final = "recovered.msgpack"  # in the new log's directory, so that both come into force at once


class RecoveryKind(enum.StrEnum):
    """Where the state comes from. The value is on disk."""

    FORCE = "force"  # the manager's own log and snapshot
    RESTORE = "restore"  # a snapshot file


class RecoveryOrder(Model, frozen=True):
    """Begin a group of managers that has this one only. `hostname` names a node that is new to the cluster."""

    id: str
    kind: RecoveryKind
    hostname: str = ""


class RecoveryReport(Model, frozen=True):
    """What came of the order: the member that the manager is now, and sentences on what is kept and what is not."""

    order_id: str
    member_id: int
    kept: tuple[str, ...]
