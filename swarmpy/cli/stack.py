"""`swarmpy stack`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from swarmpy.cli.filters import filter_option, parse_filters
from swarmpy.cli.given import usage_error
from swarmpy.cli.output import list_options, show_list
from swarmpy.cli.service.images import ImageDesk, ResolveImage
from swarmpy.cli.session import Session
from swarmpy.cli.tasks import Listing, TaskView, show_tasks, task_options
from swarmpy.errors import not_found
from swarmpy.model.spec import STACK_LABEL
from swarmpy.model.states import word
from swarmpy.notation.choices import parse_choice

if TYPE_CHECKING:
    from swarmpy.client import Client, ListedService
    from swarmpy.stack.load import Loaded

_FILES: Final = click.option(
    "-c", "--compose-file", "files", multiple=True, metavar="FILE", help="Compose file, `-` for standard input."
)


@click.group()
def stack() -> None:
    """Manage stacks of services, from Compose files."""


@stack.command()
@_FILES
@click.option("-d", "--detach", is_flag=True, help="Return at once instead of waiting for the services.")
@click.option("--prune", is_flag=True, help="Remove services that the files no longer name.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@click.option(
    "--resolve-image",
    type=click.Choice([word(choice) for choice in ResolveImage]),
    default="always",
    help="When registries are asked which digests the images have (always).",
)
@click.option(
    "--with-registry-auth", "with_auth", is_flag=True, help="Have the nodes pull with your credentials of login."
)
@click.argument("name", metavar="STACK")
@click.pass_obj
def deploy(
    session: Session,
    files: Sequence[str],
    detach: bool,
    prune: bool,
    quiet: bool,
    resolve_image: str,
    with_auth: bool,
    name: str,
) -> None:
    """Create a stack, or bring it to what its files say."""
    from swarmpy.cli.deploy import deploy_stack
    from swarmpy.stack.convert import convert

    loaded = _load(session, files)
    desired = convert(loaded.document, name, directory=loaded.directory, environ=session.environ)
    policy = parse_choice(resolve_image, ResolveImage)

    def desk_of(client: Client) -> ImageDesk:
        return ImageDesk(session, client, policy, with_auth=with_auth)

    deploy_stack(session, name, desired, desk_of, prune=prune, detach=detach, quiet=quiet)


@stack.command()
@_FILES
@click.option("--skip-interpolation", is_flag=True, help="Leave variables as they are.")
@click.pass_obj
def config(session: Session, files: Sequence[str], skip_interpolation: bool) -> None:
    """Show the stack files as one, with their variables filled in."""
    import yaml

    from swarmpy.stack.faults import Faults
    from swarmpy.stack.schema import check

    loaded = _load(session, files, skip_interpolation=skip_interpolation)
    Faults(check(loaded.document)).raise_if_any()
    session.out.write(yaml.safe_dump(loaded.document.plain(), sort_keys=False, allow_unicode=True))


@stack.command()
@list_options
@click.pass_obj
def ls(session: Session, format_: str, quiet: bool) -> None:
    """List stacks."""

    async def work(client: Client) -> list[ListedService]:
        from swarmpy.client import ServiceFilter

        return await client.services.list(ServiceFilter(labels={STACK_LABEL: ""}))

    counts = Counter(listed.service.stack for listed in session.run(work))
    rows = [{"Name": name, "Services": count, "Orchestrator": "Swarm"} for name, count in sorted(counts.items())]
    show_list(session, {"NAME": "Name", "SERVICES": "Services"}, rows, format_=format_, quiet=quiet, key="Name")


@stack.command()
@task_options
@click.argument("name", metavar="STACK")
@click.pass_obj
def ps(session: Session, /, name: str, **view: Any) -> None:
    """List the tasks of a stack."""

    async def work(client: Client) -> Listing:
        from swarmpy.client import TaskFilter

        services = [listed.service for listed in await _services(client, name)]
        tasks = await client.tasks.list(TaskFilter(service_ids=tuple(service.id for service in services)))
        return await Listing.fetch(client, tasks, services)

    show_tasks(session, session.run(work), TaskView(**view))


@stack.command()
@filter_option
@list_options
@click.option("--no-trunc", is_flag=True, help="Show ids and commands in full.")
@click.argument("name", metavar="STACK")
@click.pass_obj
def services(session: Session, filters: Sequence[str], format_: str, quiet: bool, no_trunc: bool, name: str) -> None:
    """List the services of a stack."""
    from swarmpy.cli.service.ls import show_services

    wanted = parse_filters(filters, ("id", "name"))
    found = [
        listed
        for listed in session.run(lambda client: _services(client, name))
        if (not wanted["id"] or listed.service.id.startswith(wanted["id"]))
        and (not wanted["name"] or listed.service.name.startswith(wanted["name"]))
    ]
    show_services(session, found, format_=format_, quiet=quiet, no_trunc=no_trunc)


@stack.command()
@click.option("-d", "--detach", is_flag=True, help="Return before the tasks are gone.")
@click.argument("names", metavar="STACK...", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, names: Sequence[str], detach: bool) -> None:
    """Remove stacks, and wait until their tasks are gone."""
    from swarmpy.cli.deploy import remove_stacks

    remove_stacks(session, names, detach=detach)


async def _services(client: Client, name: str) -> list[ListedService]:
    """Return the services of a stack.

    Raises:
        SwarmError: NOT_FOUND, there are none.
    """
    from swarmpy.client import ServiceFilter

    found = await client.services.list(ServiceFilter(labels={STACK_LABEL: name}))
    if not found:
        raise not_found(f"nothing found in stack: {name}")
    return found


def _load(session: Session, files: Sequence[str], *, skip_interpolation: bool = False) -> Loaded:
    from swarmpy.stack.load import load

    if not files:
        raise usage_error("name at least one Compose file with -c")
    loaded = load(files, session.environ, stdin=session.stdin, skip_interpolation=skip_interpolation)
    for name in loaded.missing:
        session.warn(f"Warning: the variable {name} is not set: an empty text takes its place")
    return loaded
