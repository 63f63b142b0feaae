"""`swarmpy container ls`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from swarmpy.cli.container.describe import container_row
from swarmpy.cli.filters import filter_option, label_filter, matches_labels, parse_filters
from swarmpy.cli.output import list_options, show_list
from swarmpy.cli.session import Session
from swarmpy.errors import invalid
from swarmpy.model.container import Container, ContainerStatus, HealthState

FILTERS: Final = (
    "ancestor",
    "exited",
    "health",
    "id",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "status",
    "volume",
)
COLUMNS: Final = {
    "CONTAINER ID": "ID",
    "IMAGE": "Image",
    "COMMAND": "Command",
    "CREATED": "RunningFor",
    "STATUS": "Status",
    "PORTS": "Ports",
    "NAMES": "Names",
}
_STATES: Final = tuple(status.name.lower() for status in ContainerStatus)
_HEALTHS: Final = tuple(health.name.lower() for health in HealthState)


@click.command()
@click.option("-a", "--all", "every", is_flag=True, help="Show those that do not run, too.")
@click.option("-n", "--last", default=-1, metavar="NUMBER", help="Show the newest ones, those that do not run, too.")
@click.option("-l", "--latest", is_flag=True, help="Show the newest one, whether it runs or not.")
@click.option("--no-trunc", is_flag=True, help="Show ids and commands in full.")
@click.option("-s", "--size", "sizes", is_flag=True, help="Show what they have written.")
@filter_option
@list_options
@click.pass_obj
def ls(
    session: Session,
    every: bool,
    last: int,
    latest: bool,
    no_trunc: bool,
    sizes: bool,
    filters: Sequence[str],
    format_: str,
    quiet: bool,
) -> None:
    """List the containers of this node, those of services among them."""
    wanted = parse_filters(filters, FILTERS)
    for key, known in (("status", _STATES), ("health", _HEALTHS)):
        for value in wanted[key]:
            if value not in known:
                raise invalid(f'invalid filter "{key}={value}": use one of {", ".join(known)}')
    newest = 1 if latest else last
    whole = every or newest > 0 or bool(wanted["status"] or wanted["exited"])
    found = session.run(lambda client: client.containers.list(every=whole, sizes=sizes))
    chosen = [one for one in found if _matches(one, wanted)]
    if newest > 0:
        chosen = chosen[:newest]
    columns = COLUMNS | ({"SIZE": "Size"} if sizes else {})
    rows = [container_row(one, session.now(), no_trunc=no_trunc) for one in chosen]
    show_list(session, columns, rows, format_=format_, quiet=quiet)


def _matches(one: Container, wanted: Mapping[str, Sequence[str]]) -> bool:
    tests: dict[str, Callable[[str], Any]] = {
        "ancestor": lambda value: one.config.task.container.image in (value, f"{value}:latest"),
        "exited": lambda value: one.state.status is ContainerStatus.EXITED and str(one.state.exit_code) == value,
        "health": lambda value: one.state.health.name.lower() == value,
        "id": one.id.startswith,
        "is-task": lambda value: bool(one.service_id) is (value in ("true", "1")),
        "name": lambda value: value.removeprefix("/") in one.name,
        "network": lambda value: value in [net.target for net in one.config.task.networks] or not value,
        "publish": lambda value: value.partition("/")[0] in {str(binding.port) for binding in one.ports},
        "status": lambda value: one.state.status.name.lower() == value,
        "volume": lambda value: any(value in (mount.source, mount.target) for mount in one.mounts),
    }
    if not matches_labels(one.config.task.container.labels, label_filter(wanted["label"])):
        return False
    return all(not wanted[key] or any(test(value) for value in wanted[key]) for key, test in tests.items())
