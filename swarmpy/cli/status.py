"""`swarmpy swarm status`: how the managers agree, from where this one stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from swarmpy import units
from swarmpy.cli.output import show_list, show_objects
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client import Client, Consensus, ConsensusMember

COLUMNS: Final = {
    "MEMBER": "Member",
    "HOSTNAME": "Hostname",
    "ADDRESS": "Addr",
    "PART": "Part",
    "STATE": "State",
    "MATCH": "Match",
    "LAG": "Lag",
    "LAST CONTACT": "LastContact",
}


@click.command()
@click.option(
    "--format", "format_", default="", metavar="FORMAT", help="`json`, or a template such as '{{.LeaderAddr}}'."
)
@click.pass_obj
def status(session: Session, format_: str) -> None:
    """Show how the managers agree: term, leader, log, and how far each member is.

    Answered by this node's manager alone, so it works without a quorum, too.
    """

    async def work(client: Client) -> Consensus:
        return await client.cluster.consensus()

    found = session.run(work)
    if format_:
        show_objects(session, [_document(found)], format_=format_)
        return
    for name, value in _lines(found):
        session.echo(f"{name + ':':<17}{value}")
    session.echo()
    show_list(session, COLUMNS, [_row(member) for member in found.members], format_="table", quiet=False)


def _lines(found: Consensus) -> list[tuple[str, str]]:
    leader = next((m for m in found.members if m.member_id == found.leader_id), None)
    named = f"{leader.hostname or leader.node_id} ({found.leader_addr})" if leader is not None else found.leader_addr
    lines = [
        ("Member", f"{found.member_id} ({found.role})"),
        ("Term", str(found.term)),
        ("Leader", named or "none"),
        ("Commit index", str(found.commit_index)),
        ("Applied index", str(found.applied_index)),
        ("Log", f"entries {found.first_index} to {found.last_index}, {units.human_bytes(found.log_bytes)}"),
        ("Snapshot", f"at entry {found.snapshot_index}" if found.snapshot_index else "none yet"),
        ("Feature level", str(found.feature_level)),
    ]
    if found.log_full:
        lines.append(("Writes refused", found.log_full))
    if found.problem:
        lines.append(("Problem", found.problem))
    return lines


def _row(member: ConsensusMember) -> dict[str, Any]:
    part = "leader" if member.leader else "voter" if member.voter else "learner"
    known = bool(member.state)
    return {
        "Member": member.member_id,
        "Hostname": member.hostname,
        "Addr": member.addr,
        "Part": part,
        "State": ("active" if member.active else "silent") if known else "",
        "Match": member.match if known else "",
        "Lag": member.lag if known else "",
        "LastContact": "" if member.last_contact_s is None else f"{member.last_contact_s:.1f} s ago",
    }


def _document(found: Consensus) -> dict[str, Any]:
    document = {_camel(name): value for name, value in msgspec.structs.asdict(found).items() if name != "members"}
    members = [{_camel(k): v for k, v in msgspec.structs.asdict(member).items()} for member in found.members]
    return {**document, "Members": members}


def _camel(name: str) -> str:
    return "".join(part.title() for part in name.split("_")).replace("Id", "ID")
