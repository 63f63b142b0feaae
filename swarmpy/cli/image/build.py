"""`swarmpy image build`: an installed buildah builds, the node imports the result."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from swarmpy.cli.given import usage_error
from swarmpy.cli.image.archive import pieces_of
from swarmpy.cli.session import Session
from swarmpy.errors import invalid, precondition

if TYPE_CHECKING:
    from swarmpy.client import Client

_PROGRAM: Final = "buildah"


@click.command()
@click.option("-t", "--tag", "tags", multiple=True, required=True, metavar="NAME[:TAG]", help="Name of the image.")
@click.option("-f", "--file", "file", default="", metavar="FILE", help="The Dockerfile (PATH/Dockerfile).")
@click.option("--build-arg", "arguments", multiple=True, metavar="NAME[=VALUE]", help="Value of an ARG.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set a label of the image.")
@click.option("--target", default="", metavar="STAGE", help="Stop at a stage.")
@click.option("--no-cache", is_flag=True, help="Do not use what earlier builds left.")
@click.option("--pull", "pulls", is_flag=True, help="Ask registries for newer base images.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Platform of the image.")
@click.option("-q", "--quiet", is_flag=True, help="Show the image's name only.")
@click.argument("path", metavar="PATH")
@click.pass_obj
def build(
    session: Session,
    tags: Sequence[str],
    file: str,
    arguments: Sequence[str],
    labels: Sequence[str],
    target: str,
    no_cache: bool,
    pulls: bool,
    platform: str,
    quiet: bool,
    path: str,
) -> None:
    """Build an image from the Dockerfile in PATH, and import it under its names."""
    from swarmpy.registry.reference import parse_reference

    names = [parse_reference(text) for text in tags]
    if any(name.digest for name in names):
        raise usage_error("a digest is not a name that one can choose: give --tag a name and a tag")
    if not Path(path).is_dir():
        raise invalid(f"the path {path} is no directory: give the one with the Dockerfile and the files it copies")
    program = shutil.which(_PROGRAM, path=session.environ.get("PATH"))
    if program is None:
        raise precondition("images are built by buildah, which is not installed: apt-get install buildah")
    options = [
        *(["--file", _found(file)] if file else []),
        *(word for argument in arguments for word in ("--build-arg", argument)),
        *(word for label in labels for word in ("--label", label)),
        *(["--target", target] if target else []),
        *(["--no-cache"] if no_cache else []),
        *(["--pull-always"] if pulls else []),
        *(["--platform", platform] if platform else []),
        *(["--quiet"] if quiet else []),
    ]
    with tempfile.TemporaryDirectory(prefix="swarmpy-build-") as directory:
        archive = Path(directory) / "image.tar"
        first = str(names[0])
        # Docker's format, as OCI's has no health checks; with layers, so that the next build uses what did not change.
        kind = ("--format", "docker", "--layers")
        _run([program, "build", *kind, "--tag", first, *options, path], session, quiet=quiet)
        _run([program, "push", "--quiet", first, f"docker-archive:{archive}:{first}"], session, quiet=True)
        with archive.open("rb") as opened:

            async def work(client: Client) -> None:
                await client.images.load(
                    pieces_of(opened, "the build's result"), name=first, source="the build's result"
                )
                for name in names[1:]:
                    await client.images.tag(first, str(name))

            session.run(work)
    for name in names:
        session.echo(name.familiar() if quiet else f"Successfully tagged {name.familiar()}")


def _found(file: str) -> str:
    """Return the Dockerfile's path from here, as buildah would look for it in the context first."""
    if file != "-" and not Path(file).is_file():
        raise invalid(f"there is no Dockerfile {file}: give its path from the present directory")
    return file if file == "-" else str(Path(file).absolute())


def _run(command: Sequence[str], session: Session, *, quiet: bool) -> None:
    """Run buildah, its output on ours."""
    out = subprocess.DEVNULL if quiet else None
    try:
        done = subprocess.run(command, stdout=out, env=dict(session.environ), check=False)
    except OSError as error:
        raise precondition(f"{command[0]} cannot be run: {(error.strerror or str(error)).lower()}") from error
    if done.returncode:
        raise precondition(f"buildah has failed with status {done.returncode}: what it said above says why")
