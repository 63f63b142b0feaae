"""`swarmpy image ls`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from swarmpy import units
from swarmpy.cli.filters import filter_option, label_filter, matches_labels, parse_filters
from swarmpy.cli.human import ago, timestamp
from swarmpy.cli.output import list_options, show_list
from swarmpy.cli.session import Session
from swarmpy.model.image import LocalImage

FILTERS: Final = ("before", "dangling", "label", "reference", "since")
COLUMNS: Final = {"REPOSITORY": "Repository", "TAG": "Tag"}
MORE: Final = {"IMAGE ID": "ID", "CREATED": "CreatedSince", "SIZE": "Size"}
NONE: Final = "<none>"
_ID: Final = 12


@click.command()
@click.argument("repository", metavar="[REPOSITORY[:TAG]]", default="")
@click.option("-a", "--all", "every", is_flag=True, hidden=True)
@click.option("--digests", is_flag=True, help="Show digests, too.")
@click.option("--no-trunc", is_flag=True, help="Show ids in full.")
@filter_option
@list_options
@click.pass_obj
def ls(
    session: Session,
    repository: str,
    every: bool,
    digests: bool,
    no_trunc: bool,
    filters: Sequence[str],
    format_: str,
    quiet: bool,
) -> None:
    """List the images of this node, the newest first."""
    wanted = parse_filters(filters, FILTERS)
    found = session.run(lambda client: client.images.list())
    rows = [
        row
        for image in _between(found, wanted)
        if matches_labels(image.labels, label_filter(wanted["label"]))
        for row in _rows(image, session.now(), no_trunc=no_trunc, digests=digests)
        if _matches(row, repository, wanted)
    ]
    columns = COLUMNS | ({"DIGEST": "Digest"} if digests else {}) | MORE
    if quiet:
        rows = list({row["ID"]: row for row in rows}.values())
    show_list(session, columns, rows, format_=format_, quiet=quiet)


def _between(found: Sequence[LocalImage], wanted: Mapping[str, Sequence[str]]) -> Sequence[LocalImage]:
    """Return the images that came before, or since, one that is named."""
    for key, is_before in (("before", True), ("since", False)):
        for name in wanted[key]:
            at = next((one.added_at for one in found if name in one.names or f"{name}:latest" in one.names), None)
            if at is not None:
                found = [one for one in found if (one.added_at < at if is_before else one.added_at > at)]
    return found


def _rows(image: LocalImage, now: float, *, no_trunc: bool, digests: bool) -> Iterator[dict[str, Any]]:
    """Yield a row for each name with a tag; one without any for an image that has only digests."""
    short = image.id if no_trunc else image.id.removeprefix("sha256:")[:_ID]
    for name in image.tags or (NONE,):
        repository, tag = _split(name) if name != NONE else (_repository(image), NONE)
        yield {
            "Repository": repository,
            "Tag": tag,
            "Digest": image.digest,
            "ID": short or NONE,
            "CreatedSince": ago(image.created_at or image.added_at, now),
            "CreatedAt": timestamp(image.created_at or image.added_at),
            "Size": units.human_bytes(image.size_bytes) if not image.problem else "damaged",
            "Containers": str(len(image.used_by)),
            "Platform": image.platform,
        }


def _repository(image: LocalImage) -> str:
    return image.names[0].partition("@")[0] if image.names else NONE


def _split(name: str) -> tuple[str, str]:
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "latest")


def _matches(row: Mapping[str, Any], repository: str, wanted: Mapping[str, Sequence[str]]) -> bool:
    from fnmatch import fnmatch

    name = f"{row['Repository']}:{row['Tag']}"
    patterns = (*((repository,) if repository else ()), *wanted["reference"])
    if patterns and not any(fnmatch(name, p) or fnmatch(row["Repository"], p) for p in patterns):
        return False
    dangling = [value in ("true", "1") for value in wanted["dangling"]]
    return not dangling or (row["Tag"] == NONE) in dangling
