"""Names of images as people read them."""

from __future__ import annotations


def without_digest(image: str) -> str:
    """Return `NAME:TAG` of `NAME:TAG@DIGEST`; a name that has a digest only is what people gave, and stays."""
    name, _, _ = image.partition("@")
    return name if ":" in name.rpartition("/")[2] else image
