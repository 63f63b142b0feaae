"""`swarmpy swarm`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from swarmpy.cli.flag import Flag, add_flags
from swarmpy.cli.given import Given, usage_error
from swarmpy.cli.lazy import refused
from swarmpy.cli.session import Session
from swarmpy.cli.snapshot import show_kept, snapshot
from swarmpy.cli.status import status
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.states import Availability, NodeRole, word

if TYPE_CHECKING:
    from swarmpy.client import Client, Tokens

SETTINGS: Final = (
    Flag("cert-expiry", "DURATION", "Validity of node certificates (2160h)"),
    Flag("dispatcher-heartbeat", "DURATION", "Period of the workers' heartbeats (2s)"),
    Flag("max-snapshots", "NUMBER", "Old snapshots to keep (0)"),
    Flag("remove-dead-managers", "DURATION", "Demote managers that were silent for so long; 0 never does (0)"),
    Flag("snapshot-interval", "NUMBER", "Log entries between two snapshots (10000)"),
    Flag("task-history-limit", "NUMBER", "Stopped tasks to keep for each slot (5)"),
    Flag("autolock", "", "Lock the manager's keys", supported=False),
    Flag("external-ca", "SPEC", "External certificate authority", supported=False),
)
ADDRESSES: Final = (
    Flag("advertise-addr", "ADDRESS[:PORT]", "Address that other nodes reach this one at (the node's, 2377)"),
    Flag("availability", "active|pause|drain", "Whether the node takes tasks (active)"),
    Flag("data-path-addr", "ADDRESS", "Address for the traffic of services (the node's)"),
    Flag("listen-addr", "ADDRESS[:PORT]", "Address that the manager listens on"),
)
INIT: Final = (
    *SETTINGS,
    *ADDRESSES,
    Flag("data-path-port", "PORT", "Port of the overlay network", supported=False),
    Flag("default-addr-pool", "SUBNET", "Range that networks get their subnets from (10.0.0.0/8)", many=True),
    Flag("default-addr-pool-mask-length", "BITS", "Size of a network's subnet (24)"),
    Flag("force-new-cluster", "", "Go on with this manager alone and its state, when the quorum is lost for good"),
)
JOIN: Final = (
    *ADDRESSES,
    Flag("token", "TOKEN", "Join token of a worker or a manager"),
    Flag("join-addr", "HOST:PORT", "The manager's bootstrap address, where it is not the port after its own"),
)


@click.group()
def swarm() -> None:
    """Manage the swarm."""


for _name, _help in (
    ("ca", "Show and rotate the root certificate"),
    ("unlock", "Unlock a manager"),
    ("unlock-key", "Show the unlock key"),
):
    swarm.add_command(refused(f"`swarmpy swarm {_name}`", _name, _help))


@swarm.command()
@add_flags(INIT)
@click.pass_obj
def init(session: Session, /, **values: Any) -> None:
    """Start a new swarm with this node as its first manager."""
    given = Given(values, INIT)
    if given.switch("force-new-cluster"):
        _force_new_cluster(session, given)
        return
    spec = _settings(ClusterSpec(), given)
    addresses = _addresses(given)
    made = session.run(lambda client: client.node.init(spec, **addresses))
    session.echo(f"Swarm initialized: current node ({made.node_id}) is now a manager.\n")
    session.echo(_how_to_join(NodeRole.WORKER, made.worker_token, made.addr))
    session.echo(
        "To add a manager to this swarm, run 'swarmpy swarm join-token manager' and follow the instructions.\n"
    )


def _force_new_cluster(session: Session, given: Given) -> None:
    if given.changes(ignoring=("force-new-cluster", "advertise-addr", "listen-addr")):
        raise usage_error(
            "--force-new-cluster keeps the swarm's settings: give --advertise-addr and --listen-addr with it at most"
        )
    begun = session.run(
        lambda client: client.node.force_new_cluster(
            advertise_addr=given.text("advertise-addr") or "", listen_addr=given.text("listen-addr") or ""
        )
    )
    session.echo(f"Swarm begun anew: current node ({begun.node_id}) is now its only manager.\n")
    show_kept(session, begun.kept)


@swarm.command()
@add_flags(JOIN)
@click.argument("remote", metavar="HOST[:PORT]")
@click.pass_obj
def join(session: Session, /, remote: str, **values: Any) -> None:
    """Join a swarm, as a worker or a manager: the token decides."""
    given = Given(values, JOIN)
    token = given.text("token")
    if not token:
        raise usage_error("--token is missing: `swarmpy swarm join-token worker` on a manager shows it")
    joined = session.run(
        lambda client: client.node.join(
            _with_port(remote), token, join_addr=given.text("join-addr") or "", **_addresses(given)
        )
    )
    session.echo(f"This node joined a swarm as a {word(joined.role)}.")


@swarm.command("join-token")
@click.option("-q", "--quiet", is_flag=True, help="Only show the token.")
@click.option("--rotate", is_flag=True, help="Replace the token first: the old one admits nobody any more.")
@click.argument("role", metavar="worker|manager")
@click.pass_obj
def join_token(session: Session, role: str, quiet: bool, rotate: bool) -> None:
    """Show how to join the swarm."""
    roles = {word(r): r for r in NodeRole}
    if role not in roles:
        raise usage_error(f'unknown role "{role}": use worker or manager')

    async def work(client: Client) -> Tokens:
        return await (client.cluster.rotate_join_token(roles[role]) if rotate else client.cluster.join_tokens())

    found = session.run(work)
    token = found.tokens.manager if roles[role] is NodeRole.MANAGER else found.tokens.worker
    if quiet:
        session.echo(token)
        return
    if rotate:
        session.echo(f"Successfully rotated {role} join token.\n")
    session.echo(_how_to_join(roles[role], token, found.addr))


@swarm.command()
@click.option("-f", "--force", is_flag=True, help="Leave even as a manager.")
@click.pass_obj
def leave(session: Session, force: bool) -> None:
    """Leave the swarm; the tasks on this node stop."""
    session.run(lambda client: client.node.leave(force=force))
    session.echo("Node left the swarm.")


swarm.add_command(snapshot)
swarm.add_command(status)


@swarm.command()
@add_flags(SETTINGS)
@click.pass_obj
def update(session: Session, /, **values: Any) -> None:
    """Change the swarm's settings."""
    given = Given(values, SETTINGS)
    if not given.changes():
        raise usage_error(f"nothing to change: give one of {_names(f.name for f in SETTINGS if f.supported)}")

    async def work(client: Client) -> None:
        cluster = (await client.cluster.get()).cluster
        await client.cluster.update(cluster, _settings(cluster.spec, given))

    session.run(work)
    session.echo("Swarm updated.")


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"--{name}" for name in names)


def _settings(spec: ClusterSpec, given: Given) -> ClusterSpec:
    values = {
        "node_cert_expiry_s": given.duration_s("cert-expiry"),
        "heartbeat_period_s": _heartbeat_s(given),
        "keep_old_snapshots": given.number("max-snapshots"),
        "remove_dead_managers_after_s": given.duration_s("remove-dead-managers"),
        "snapshot_interval": given.number("snapshot-interval"),
        "task_history_limit": given.number("task-history-limit"),
        "default_addr_pools": given.items("default-addr-pool") or None,
        "default_addr_mask": given.number("default-addr-pool-mask-length"),
    }
    return msgspec.structs.replace(spec, **{k: v for k, v in values.items() if v is not None})


def _heartbeat_s(given: Given) -> float | None:
    period_s = given.duration_s("dispatcher-heartbeat")
    if period_s == 0:
        raise usage_error('invalid argument "0" for "--dispatcher-heartbeat": must be above 0')
    return period_s


def _addresses(given: Given) -> dict[str, Any]:
    return {
        "advertise_addr": given.text("advertise-addr") or "",
        "listen_addr": given.text("listen-addr") or "",
        "data_path_addr": given.text("data-path-addr") or "",
        "availability": given.choice("availability", Availability) or Availability.ACTIVE,
    }


def _with_port(remote: str) -> str:
    host, colon, _ = remote.rpartition(":")
    has_port = bool(colon) and not host.endswith(":") and (":" not in host or host.endswith("]"))
    return remote if has_port else f"{remote}:2377"


def _how_to_join(role: NodeRole, token: str, addr: str) -> str:
    return (
        f"To add a {word(role)} to this swarm, run the following command:\n\n"
        f"    swarmpy swarm join --token {token} {addr}\n"
    )
