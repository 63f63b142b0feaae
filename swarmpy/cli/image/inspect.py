"""`swarmpy image inspect` and `history`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from swarmpy import units
from swarmpy.cli import table
from swarmpy.cli.each import of_each
from swarmpy.cli.human import ago, timestamp
from swarmpy.cli.output import show_objects
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client.images import ImageDetail

_HISTORY: Final = ("IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT")
_STEP_WIDTH: Final = 45


@click.command()
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.argument("refs", metavar="IMAGE...", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, refs: Sequence[str], format_: str) -> int:
    """Show images in detail."""

    found, failed = of_each(session, refs, lambda client, ref: client.images.get(ref))
    show_objects(session, [image_document(one) for _, one in found], format_=format_)
    return failed


def image_document(detail: ImageDetail) -> dict[str, Any]:
    """Return an image as Docker shows it: its configuration as it came, and what the node knows."""
    image, config = detail.image, json.loads(detail.config)
    return {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": [name for name in image.names if "@" in name],
        "Created": config.get("created", ""),
        "Architecture": config.get("architecture", ""),
        "Os": config.get("os", ""),
        "Config": config.get("config", {}),
        "Size": image.size_bytes,
        "StoredSize": image.stored_bytes,
        "GraphDriver": {"Name": detail.driver},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in detail.layers]},
        "Containers": list(image.used_by),
        "Metadata": {"LastTagTime": timestamp(image.added_at)},
    }


@click.command()
@click.option("--no-trunc", is_flag=True, help="Show steps in full.")
@click.argument("ref", metavar="IMAGE")
@click.pass_obj
def history(session: Session, ref: str, no_trunc: bool) -> None:
    """Show the steps that made an image, the last one first."""
    detail = session.run(lambda client: client.images.get(ref))
    layers = list(reversed(detail.layers))
    rows = []
    for step in reversed(json.loads(detail.config).get("history") or []):
        layer = None if step.get("empty_layer") or not layers else layers.pop(0)
        text = " ".join(str(step.get("created_by", "")).split())
        shown = text if no_trunc or len(text) <= _STEP_WIDTH else text[: _STEP_WIDTH - 1] + "…"
        size = units.human_bytes(layer.size_bytes) if layer is not None else "0B"
        rows.append([shown, _since(str(step.get("created", "")), session.now()), size, str(step.get("comment", ""))])
    ids = [detail.image.id.removeprefix("sha256:")[:12], *["<missing>"] * max(0, len(rows) - 1)]
    body = [
        [image, since, shown, size, comment] for image, (shown, since, size, comment) in zip(ids, rows, strict=False)
    ]
    session.echo(table.render([list(_HISTORY), *body]))


def _since(created: str, now: float) -> str:
    try:
        return ago(datetime.fromisoformat(created).timestamp(), now)
    except ValueError:
        return ""
