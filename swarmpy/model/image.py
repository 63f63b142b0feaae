"""An image that a node has, as its users see it."""

from __future__ import annotations

from swarmpy.model.base import Model


class LocalImage(Model, frozen=True):
    """An image with all its names, in their short forms.

    `id` is the digest of its configuration, empty where `problem` says why the image cannot be used. `size_bytes` is
    what its layers take unpacked, `stored_bytes` what came from the registry. Times are wall seconds, 0 if unknown.
    """

    id: str = ""
    digest: str = ""
    names: tuple[str, ...] = ()
    created_at: float = 0.0
    added_at: float = 0.0
    size_bytes: int = 0
    stored_bytes: int = 0
    platform: str = ""
    labels: dict[str, str] = {}
    used_by: tuple[str, ...] = ()
    problem: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """The names that have a tag."""
        return tuple(name for name in self.names if "@" not in name)


class ImageLayer(Model, frozen=True):
    """A layer: `diff_id` is the digest of its content, `digest` that of the blob as it is stored."""

    diff_id: str = ""
    digest: str = ""
    size_bytes: int = 0
    stored_bytes: int = 0
