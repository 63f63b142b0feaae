"""`swarmpy swarm snapshot`: save the whole state as a file, look into one, bring a swarm back from one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from swarmpy import units
from swarmpy.cli.flag import Flag, add_flags
from swarmpy.cli.given import Given
from swarmpy.cli.human import timestamp
from swarmpy.cli.session import Session

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.snapshot.reader import Verified

PIECE_BYTES: Final = 1024 * 1024
KEYS: Final = "The file holds the swarm's keys and join tokens: keep it where nobody else can read it."
RESTORE: Final = (
    Flag("advertise-addr", "ADDRESS[:PORT]", "Address that other nodes reach this one at (the node's, 2377)"),
    Flag("listen-addr", "ADDRESS[:PORT]", "Address that the manager listens on"),
)
_FILE: Final = click.Path(path_type=Path)


@click.group()
def snapshot() -> None:
    """Save the swarm's state as a file, look into one, bring a swarm back from one."""


@snapshot.command()
@click.argument("file", type=_FILE, metavar="FILE")
@click.pass_obj
def save(session: Session, file: Path) -> None:
    """Save the state of the swarm as of now to FILE, while it goes on."""
    from swarmpy.snapshot.draft import Draft

    with Draft(file) as draft:

        async def work(client: Client) -> None:
            async with aclosing(client.cluster.save_snapshot()) as pieces:
                async for piece in pieces:
                    draft.write(piece)

        session.run(work)
        found = draft.finish()
    session.echo(
        f"Saved revision {found.header.revision} of swarm {found.header.cluster.id} to {file} "
        f"({units.human_bytes(found.size_bytes)})."
    )
    session.echo(KEYS)


@snapshot.command()
@click.argument("file", type=_FILE, metavar="FILE")
@click.pass_obj
def inspect(session: Session, file: Path) -> None:
    """Show what is in FILE, and whether it is sound. Needs no node."""
    for name, value in _lines(_verify(file)):
        session.echo(f"{name + ':':<18}{value}")
    session.echo(KEYS)


@snapshot.command()
@add_flags(RESTORE)
@click.argument("file", type=_FILE, metavar="FILE")
@click.pass_obj
def restore(session: Session, /, file: Path, **values: Any) -> None:
    """Bring the swarm in FILE back, with this node, which is in no swarm, as its only manager."""
    given = Given(values, RESTORE)
    _verify(file)
    restored = session.run(
        lambda client: client.node.restore(
            lambda: _pieces(file),
            advertise_addr=given.text("advertise-addr") or "",
            listen_addr=given.text("listen-addr") or "",
        )
    )
    session.echo(f"Swarm restored: current node ({restored.node_id}) is now its manager, at {restored.addr}.\n")
    show_kept(session, restored.kept)


def show_kept(session: Session, sentences: tuple[str, ...]) -> None:
    """Show what a swarm that began anew has kept, and what not."""
    for sentence in sentences:
        session.echo(f"- {sentence}")


def _verify(path: Path) -> Verified:
    from swarmpy.snapshot.reader import SnapshotFile

    with SnapshotFile(path) as file:
        return file.verify()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _lines(found: Verified) -> list[tuple[str, str]]:
    header = found.header
    counted = [(name.replace("_", " ").capitalize(), str(count)) for name, count in sorted(header.objects.items())]
    return [
        ("Swarm", header.cluster.id),
        ("Saved", f"{timestamp(header.created_at)} by swarmpy {header.release}"),
        ("Revision", f"{header.revision} (log entry {header.index}, term {header.term})"),
        ("Feature level", str(header.cluster.feature_level)),
        *(line for line in counted if line[0] != "Clusters"),
        ("Size", units.human_bytes(found.size_bytes)),
        ("SHA-256", f"{found.sha256} (sound)"),
    ]
