"""The noun `image`."""

from __future__ import annotations

from typing import Final

import click

from swarmpy.cli.lazy import Entry, LazyGroup

_HERE: Final = "swarmpy.cli.image"
COMMANDS: Final = {
    "build": Entry(f"{_HERE}.build:build", "Build an image from a Dockerfile, by buildah"),
    "history": Entry(f"{_HERE}.inspect:history", "Show the steps that made an image"),
    "import": Entry(f"{_HERE}.archive:import_", "Import the images of an archive"),
    "inspect": Entry(f"{_HERE}.inspect:inspect", "Show images in detail"),
    "ls": Entry(f"{_HERE}.ls:ls", "List images"),
    "prune": Entry(f"{_HERE}.change:prune", "Remove images that nothing uses"),
    "pull": Entry(f"{_HERE}.transfer:pull", "Pull an image from its registry"),
    "push": Entry(f"{_HERE}.transfer:push", "Push an image to its registry"),
    "rm": Entry(f"{_HERE}.change:rm", "Remove images"),
    "save": Entry(f"{_HERE}.archive:save", "Write images to an archive"),
    "tag": Entry(f"{_HERE}.change:tag", "Give an image another name"),
}


@click.group(cls=LazyGroup, entries=COMMANDS, aliases={"load": COMMANDS["import"]})
def image() -> None:
    """Manage the images of this node."""
