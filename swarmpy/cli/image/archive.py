"""`swarmpy image import` and `save`: images as files."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from swarmpy.cli.given import usage_error
from swarmpy.cli.session import Session
from swarmpy.errors import Code, SwarmError, invalid

if TYPE_CHECKING:
    from swarmpy.client import Client

STREAM: Final = "-"
_PIECE_BYTES: Final = 1 << 20


@click.command("import")
@click.option("-i", "--input", "given", default="", metavar="FILE", help="The archive (`-` and none: standard input).")
@click.option("-q", "--quiet", is_flag=True, help="Show names only.")
@click.argument("file", metavar="[FILE|-]", default="")
@click.argument("name", metavar="[NAME[:TAG]]", default="")
@click.pass_obj
def import_(session: Session, given: str, quiet: bool, file: str, name: str) -> None:
    """Import the images of an archive: an OCI layout, or what `docker save` wrote, compressed or not.

    NAME is what to call an archive's only image, where the archive does not say it or in its place.
    """
    place = given or file or STREAM
    if given and file:
        raise usage_error("the archive is named twice, by --input and by FILE")
    source = "standard input" if place == STREAM else place
    with _opened(place) as archive:

        async def work(client: Client) -> list[str]:
            return await client.images.load(pieces_of(archive, source), name=name, source=source)

        for loaded in session.run(work):
            session.echo(loaded if quiet else f"Loaded image: {loaded}")


def _opened(place: str) -> IO[bytes]:
    if place == STREAM:
        if sys.stdin is None or sys.stdin.isatty():
            raise invalid("no archive comes from a terminal: name a file, or redirect standard input")
        return sys.stdin.buffer
    try:
        return Path(place).open("rb")
    except OSError as error:
        raise SwarmError(Code.NOT_FOUND, f"cannot read {place}: {(error.strerror or str(error)).lower()}") from error


async def pieces_of(archive: IO[bytes], source: str) -> AsyncIterator[bytes]:
    """Yield the content of a file; `source` is what to call it in sentences."""
    import asyncio

    while True:
        try:
            piece = await asyncio.to_thread(archive.read, _PIECE_BYTES)
        except OSError as error:
            raise invalid(f"cannot read {source}: {(error.strerror or str(error)).lower()}") from error
        if not piece:
            return
        yield piece


@click.command()
@click.option("-o", "--output", default="", metavar="FILE", help="Write to a file (standard output).")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.pass_obj
def save(session: Session, images: Sequence[str], output: str) -> None:
    """Write images to an archive, which `docker load` and other tools read, too."""
    if not output:
        if session.terminal:
            raise invalid("an archive is not written to a terminal: use -o FILE, or redirect standard output")
        session.out.flush()
        session.run(lambda client: _write(client, images, sys.stdout.buffer))
        return
    target = Path(output)
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise _unwritten(output, error) from error
    try:
        with os.fdopen(descriptor, "wb") as out:
            session.run(lambda client: _write(client, images, out))
        Path(draft).chmod(0o666 & ~_umask())
        Path(draft).replace(target)
    except OSError as error:
        raise _unwritten(output, error) from error
    finally:
        Path(draft).unlink(missing_ok=True)


async def _write(client: Client, images: Sequence[str], out: IO[bytes]) -> None:
    import asyncio

    async for piece in client.images.save(images):
        await asyncio.to_thread(out.write, piece)
    await asyncio.to_thread(out.flush)


def _unwritten(output: str, error: OSError) -> SwarmError:
    return SwarmError(Code.FAILED_PRECONDITION, f"cannot write {output}: {(error.strerror or str(error)).lower()}")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
