"""How a segment begins, as bytes, and how what a crash left at its end is cleared."""

from __future__ import annotations

from typing import Final

from manager.raft.log import frame as fr
from manager.raft.log import records as rec
from manager.raft.log.contents import Tail
from manager.raft.log.crypt import Sealer
from manager.raft.log.disk import File
from manager.raft.types import Metadata

_WIPE_BYTES: Final = 1024 * 1024


def segment_start(
    metadata: Metadata, tail: Tail, *, salt: int, number: int, first_frame: int, chain: int, sealer: Sealer
) -> tuple[bytes, int]:
    """Return a segment's header and first frame, and the frame's checksum.

    That frame holds all that earlier segments say besides entries, so that they can go. It never says that the log
    restarts: it only repeats.
    """
    records = (rec.encode_metadata(metadata), rec.encode_mark(tail.mark), rec.encode_hard_state(tail.hard_state))
    head, crc = fr.encode_frame(
        b"".join(records), records=len(records), salt=salt, number=first_frame, chain=chain, sealer=sealer
    )
    header = fr.SegmentHeader(
        fr.FORMAT_VERSION, sealer.codec, chain, salt, number, first_frame, tail.last_index + 1, len(head)
    )
    return fr.encode_segment_header(header) + head, crc


def clear(file: File, offset: int) -> None:
    """Make what a torn frame left behind `offset` read as never written."""
    size = file.size()
    for at in range(offset, size, _WIPE_BYTES):
        part = file.pread(min(_WIPE_BYTES, size - at), at)
        if part.strip(b"\0"):
            file.pwrite(bytes(len(part)), at)
