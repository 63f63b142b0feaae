"""Snapshot files for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from swarmpy.model.cluster import Cluster, RootCA
from swarmpy.snapshot.format import Encoder, Header

CLUSTER: Final = Cluster(
    id="cluster100000000000000000", root_ca=RootCA(cert_pem="cert", key_pem="the key"), feature_level=2
)
HEADER: Final = Header(
    cluster=CLUSTER,
    revision=7,
    index=9,
    term=2,
    created_at=1_700_000_000.0,
    objects={"clusters": 1, "nodes": 3, "service_versions": 0},
    release="0.1.0",
)


def encode(chunks: Iterable[bytes] = (b"one", b"", b"three"), header: Header = HEADER) -> bytes:
    """Return the bytes of a snapshot file with these chunks."""
    encoder = Encoder()
    return b"".join([encoder.begin(header), *(encoder.chunk(chunk) for chunk in chunks), encoder.end()])


def write(path: Path, chunks: Iterable[bytes] = (b"one", b"", b"three"), header: Header = HEADER) -> Path:
    """Write such a file; return its path."""
    path.write_bytes(encode(chunks, header))
    return path
