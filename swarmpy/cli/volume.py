"""`swarmpy volume`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from swarmpy import units
from swarmpy.cli.each import confirmed, of_each, to_each
from swarmpy.cli.filters import filter_option, label_filter, matches_labels, parse_filters
from swarmpy.cli.flag import Flag, add_flags
from swarmpy.cli.given import Given
from swarmpy.cli.human import timestamp
from swarmpy.cli.output import list_options, show_list, show_objects
from swarmpy.cli.session import Session
from swarmpy.errors import not_supported
from swarmpy.model.volume import LocalVolume
from swarmpy.notation.pairs import parse_labels

LOCAL: Final = "local"
FILTERS: Final = ("dangling", "driver", "label", "name")
COLUMNS: Final = {"DRIVER": "Driver", "VOLUME NAME": "Name"}
CREATE: Final = (
    Flag("driver", "DRIVER", "local is all there is", short="d"),
    Flag("label", "KEY=VALUE", "Set a label", many=True),
    Flag("opt", "NAME=VALUE", "Not supported yet", short="o", many=True, supported=False),
)
ANONYMOUS: Final = "WARNING! This will remove anonymous local volumes not used by at least one container."
EVERY: Final = "WARNING! This will remove all local volumes not used by at least one container."


@click.group()
def volume() -> None:
    """Manage the volumes of this node."""


@volume.command()
@add_flags(CREATE)
@click.argument("name", metavar="[NAME]", default="")
@click.pass_obj
def create(session: Session, /, name: str, **values: Any) -> None:
    """Create a volume; without a name, one is made up."""
    given = Given(values, CREATE)
    if (driver := given.text("driver") or LOCAL) != LOCAL:
        raise not_supported(f"the volume driver {driver}")
    labels = parse_labels(given.items("label"))
    made = session.run(lambda client: client.volumes.create(name, labels))
    session.echo(made.name)


@volume.command()
@filter_option
@list_options
@click.pass_obj
def ls(session: Session, filters: Sequence[str], format_: str, quiet: bool) -> None:
    """List volumes."""
    wanted = parse_filters(filters, FILTERS)
    found = session.run(lambda client: client.volumes.list())
    rows = [_document(one) for one in found if _matches(one, wanted)]
    show_list(session, COLUMNS, rows, format_=format_, quiet=quiet, key="Name")


def _matches(one: LocalVolume, wanted: dict[str, tuple[str, ...]]) -> bool:
    dangling = [value in ("true", "1") for value in wanted["dangling"]]
    return (
        (not dangling or (not one.used_by) in dangling)
        and (not wanted["driver"] or LOCAL in wanted["driver"])
        and (not wanted["name"] or any(value in one.name for value in wanted["name"]))
        and matches_labels(one.labels, label_filter(wanted["label"]))
    )


def _document(one: LocalVolume) -> dict[str, Any]:
    return {
        "CreatedAt": timestamp(one.created_at),
        "Driver": LOCAL,
        "Labels": dict(one.labels),
        "Mountpoint": one.mountpoint,
        "Name": one.name,
        "Options": {},
        "Scope": LOCAL,
        "UsedBy": list(one.used_by),
    }


@volume.command()
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.argument("names", metavar="VOLUME...", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, names: Sequence[str], format_: str) -> int:
    """Show volumes in detail."""

    found, failed = of_each(session, names, lambda client, name: client.volumes.get(name))
    show_objects(session, [_document(one) for _, one in found], format_=format_)
    return failed


@volume.command()
@click.option("-f", "--force", is_flag=True, help="Say nothing of volumes that are not there.")
@click.argument("names", metavar="VOLUME...", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, names: Sequence[str], force: bool) -> int:
    """Remove volumes that no container uses."""
    return to_each(session, names, lambda client, name: client.volumes.remove(name, force=force))


@volume.command()
@click.option("-a", "--all", "every", is_flag=True, help="Those with a name, too.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only what matches: label.")
@click.pass_obj
def prune(session: Session, every: bool, force: bool, filters: Sequence[str]) -> None:
    """Remove volumes that no container uses, anonymous ones only unless -a is given."""
    labels = label_filter(parse_filters(filters, ("label",))["label"])
    if not force and not confirmed(session, EVERY if every else ANONYMOUS):
        return
    names, freed_bytes = session.run(lambda client: client.volumes.prune(every=every, labels=labels))
    if names:
        session.echo("Deleted Volumes:\n" + "\n".join(names) + "\n")
    session.echo(f"Total reclaimed space: {units.human_bytes(freed_bytes)}")
