"""`swarmpy network`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from swarmpy.cli.each import confirmed
from swarmpy.cli.filters import filter_option, label_filter, matches_labels, parse_filters
from swarmpy.cli.flag import Flag, add_flags
from swarmpy.cli.given import Given, usage_error
from swarmpy.cli.lazy import refused
from swarmpy.cli.networks import Listed, network_document, network_row, of_cluster, predefined, service_documents
from swarmpy.cli.output import list_options, show_list, show_objects
from swarmpy.cli.session import Session
from swarmpy.errors import Code, SwarmError, invalid
from swarmpy.model.network import INGRESS, PREDEFINED, Network, NetworkSpec
from swarmpy.model.states import NetworkDriver
from swarmpy.notation.pairs import parse_labels
from swarmpy.units import parse_duration_s

if TYPE_CHECKING:
    from swarmpy.cli.documents import Document
    from swarmpy.client import Client

FILTERS: Final = ("driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS: Final = ("label", "until")
COLUMNS: Final = {"NETWORK ID": "ID", "NAME": "Name", "DRIVER": "Driver", "SCOPE": "Scope"}
CREATE: Final = (
    Flag("attachable", "", "Let single containers join, too"),
    Flag("driver", "overlay|bridge", "One network over all nodes, or one on each (overlay)", short="d"),
    Flag("gateway", "ADDRESS", "Gateway of the subnet (its first address)"),
    Flag("internal", "", "No way out of the network"),
    Flag("ip-range", "SUBNET", "Part of the subnet that addresses are given from (all of it)"),
    Flag("label", "KEY=VALUE", "Set a label", many=True),
    Flag("opt", "KEY=VALUE", "Option of the driver: mtu", short="o", many=True),
    Flag("subnet", "SUBNET", "Range of addresses, such as 10.1.0.0/24 (a free one)", many=True),
    *(Flag(n, "", "Not supported yet", supported=False) for n in ("config-only", "ingress", "ipv6")),
    *(Flag(n, "VALUE", "Not supported yet", supported=False) for n in ("config-from", "ipam-driver", "scope")),
    *(Flag(n, "VALUE", "Not supported yet", many=True, supported=False) for n in ("aux-address", "ipam-opt")),
)
PRUNE_WARNING: Final = "WARNING! This will remove all custom networks not used by at least one service."


@click.group()
def network() -> None:
    """Manage networks."""


for _name, _help in (("connect", "Have a container join a network"), ("disconnect", "Have a container leave one")):
    _what = (
        f"`swarmpy network {_name}` (for single containers; services use `swarmpy service update --network-add/-rm`)"
    )
    network.add_command(refused(_what, _name, _help))


@network.command()
@add_flags(CREATE)
@click.argument("name", metavar="NETWORK")
@click.pass_obj
def create(session: Session, /, name: str, **values: Any) -> None:
    """Create a network, which services join by its name."""
    spec = _spec(name, Given(values, CREATE))

    async def work(client: Client) -> Network:
        return await client.networks.create(spec)

    session.echo(session.run(work).id)


@network.command()
@filter_option
@list_options
@click.option("--no-trunc", is_flag=True, help="Show ids in full.")
@click.pass_obj
def ls(session: Session, filters: Sequence[str], format_: str, quiet: bool, no_trunc: bool) -> None:
    """List networks, those that every node has among them."""
    wanted = parse_filters(filters, FILTERS)
    for kind in wanted["type"]:
        if kind not in ("builtin", "custom"):
            raise invalid(f'invalid filter "type={kind}": use builtin or custom')
    found = [of_cluster(one) for one in session.run(lambda client: client.networks.list())]
    selected = [one for one in (*found, *predefined()) if _matches(one, wanted)]
    rows = [network_row(one, no_trunc=no_trunc) for one in sorted(selected, key=lambda one: one.name)]
    show_list(session, COLUMNS, rows, format_=format_, quiet=quiet)


@network.command()
@click.option("-v", "--verbose", is_flag=True, help="Show the services and tasks on it, too.")
@click.option("-f", "--format", "format_", default="", metavar="FORMAT", help="`json` or a template.")
@click.argument("refs", metavar="NETWORK...", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, refs: Sequence[str], verbose: bool, format_: str) -> None:
    """Show networks in detail."""
    builtin = {one.name: one for one in predefined()}

    async def work(client: Client) -> list[Document]:
        documents = []
        for ref in refs:
            one = builtin[ref] if ref in builtin else of_cluster(await client.networks.get(ref))
            document = network_document(one)
            if verbose:
                document["Services"] = await _services(client, one.id)
            documents.append(document)
        return documents

    show_objects(session, session.run(work), format_=format_)


@network.command()
@click.option("-f", "--force", is_flag=True, help="Say nothing of networks that are not there.")
@click.argument("refs", metavar="NETWORK...", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, refs: Sequence[str], force: bool) -> int:
    """Remove networks that no service joins."""

    async def work(client: Client) -> int:
        failed = 0
        for ref in refs:
            try:
                if ref in (*PREDEFINED, INGRESS):
                    raise invalid(f"{ref} is a pre-defined network and cannot be removed")
                await client.networks.remove(ref)
            except SwarmError as error:
                if force and error.code is Code.NOT_FOUND:
                    continue
                failed = 1
                session.warn(f"Error: {error.message}")
            else:
                session.echo(ref)
        return failed

    return session.run(work)


@network.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only what matches: label, until.")
@click.pass_obj
def prune(session: Session, filters: Sequence[str], force: bool) -> None:
    """Remove all networks that no service joins."""
    wanted = parse_filters(filters, PRUNE_FILTERS)
    labels = label_filter(wanted["label"])
    before = min((session.now() - parse_duration_s(text) for text in wanted["until"]), default=session.now())
    if not force and not confirmed(session, PRUNE_WARNING):
        return

    async def work(client: Client) -> list[str]:
        removed = []
        for one in sorted(await client.networks.list(), key=lambda n: n.name):
            if one.created_at > before or not matches_labels(one.spec.labels, labels):
                continue
            try:
                await client.networks.remove(one.id)
            except SwarmError as error:
                if error.code not in (Code.FAILED_PRECONDITION, Code.NOT_FOUND):
                    raise
            else:
                removed.append(one.name)
        return removed

    removed = session.run(work)
    if removed:
        session.echo("\n".join(("Deleted Networks:", *removed)))


def _spec(name: str, given: Given) -> NetworkSpec:
    subnets = given.items("subnet")
    if len(subnets) > 1:
        raise usage_error("--subnet is given more than once: a network has one subnet")
    labels: dict[str, str] = {}
    for item in given.parse_items("label", lambda text: parse_labels((text,))):
        labels |= item
    options: dict[str, str] = {}
    for item in given.parse_items("opt", lambda text: parse_labels((text,))):
        options |= item
    return NetworkSpec(
        name=name,
        labels=labels,
        driver=given.choice("driver", NetworkDriver) or NetworkDriver.OVERLAY,
        subnet=subnets[0] if subnets else "",
        gateway=given.text("gateway") or "",
        ip_range=given.text("ip-range") or "",
        internal=given.switch("internal"),
        attachable=given.switch("attachable"),
        options=options,
    )


def _matches(one: Listed, wanted: dict[str, tuple[str, ...]]) -> bool:
    return (
        (not wanted["id"] or one.id.startswith(wanted["id"]))
        and (not wanted["name"] or any(name in one.name for name in wanted["name"]))
        and matches_labels(one.spec.labels, label_filter(wanted["label"]))
        and (not wanted["driver"] or one.driver in wanted["driver"])
        and (not wanted["scope"] or one.scope in wanted["scope"])
        and (not wanted["type"] or ("builtin" if one.is_predefined else "custom") in wanted["type"])
    )


async def _services(client: Client, network_id: str) -> Document:
    """Return the services on a network with their tasks there, by name."""
    from swarmpy.client import TaskFilter

    joined = [
        one.service
        for one in await client.services.list()
        if any(joined.target == network_id for joined in one.service.spec.task.networks)
    ]
    tasks = await client.tasks.list(TaskFilter(service_ids=tuple(s.id for s in joined))) if joined else []
    nodes = {node.id: node for node in await client.nodes.list()}
    return service_documents(network_id, joined, tasks, nodes)
