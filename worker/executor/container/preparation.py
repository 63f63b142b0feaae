"""Makes all that a container needs but its process: image, snapshot, volumes, network, files and record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import HostPort
from swarmpy.registry.credentials import Credentials
from worker.assignments import Assignment
from worker.containerd.ending import STOP_SIGNAL_LABEL
from worker.containerd.types import Container, Mount
from worker.executor.container.abilities import init_program
from worker.executor.container.files import HOSTNAME_CHARACTERS, ContainerFiles
from worker.executor.container.mounts import Fill, Resolved, resolve_mounts
from worker.executor.container.parts import Client, Images, Networks
from worker.executor.container.rootfs import Rootfs
from worker.executor.node import NodeFacts
from worker.executor.plan import identity_variables, spec_variables
from worker.executor.templates import expand
from worker.image.types import Image, image_labels
from worker.network.attachment import Attachment
from worker.oci.command import INIT_TARGET, environment
from worker.oci.facts import Abilities, Bind, Bundle
from worker.oci.spec import build_spec
from worker.oci.users import Accounts, User, resolve
from worker.task.outcome import signal_number
from worker.volumes import Volumes

_MOST_ACCOUNTS: Final = 256
_LABEL: Final = "swarmpy"


class Preparation:
    """Prepares containers. Each step finds what a former try has made."""

    def __init__(
        self,
        *,
        client: Client,
        images: Images,
        networks: Networks,
        volumes: Volumes,
        rootfs: Rootfs,
        node: Callable[[], NodeFacts],
        abilities: Abilities,
        cgroup: Callable[[str], str],
    ) -> None:
        """
        Args:
            node: returns what tasks may know of the node, as of now.
            cgroup: returns the path of a task's control group below each hierarchy's mount.
        """
        self._client = client
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._rootfs = rootfs
        self._node = node
        self._abilities = abilities
        self._cgroup = cgroup
        self._accounts: dict[str, Accounts] = {}
        self._filling: dict[str, asyncio.Lock] = {}

    async def image(self, assignment: Assignment) -> Image:
        """Return the task's image, pulled if it is not here."""
        version = assignment.version
        given = version.pull_auth
        auth = Credentials(given.username, given.password, given.identity_token) if given is not None else None
        return await self._images.ensure(version.task.container.image, auth=auth)

    async def user(self, assignment: Assignment, image: Image, root: Sequence[Mount]) -> User:
        """Return whom the container runs as, by the accounts of its image.

        Raises:
            SwarmError: INVALID_ARGUMENT, the image has no such user or group.
        """
        container = assignment.version.task.container
        accounts = self._accounts.get(image.chain_id)
        if accounts is None:
            accounts = await self._rootfs.accounts(root)
            if len(self._accounts) >= _MOST_ACCOUNTS:
                self._accounts.pop(next(iter(self._accounts)))
            self._accounts[image.chain_id] = accounts
        return resolve(container.user or image.config.user, container.groups, accounts)

    async def mounts(self, assignment: Assignment, image: Image, root: Sequence[Mount]) -> tuple[Any, ...]:
        """Return the container's mounts, with the volumes that they are of made and filled."""
        container = assignment.version.task.container
        if not container.mounts and not image.config.volumes:
            return ()
        node = self._node()

        def resolved() -> Resolved:
            return resolve_mounts(
                assignment.id,
                container,
                image.config.volumes,
                self._volumes,
                lambda text: expand(text, assignment, node),
            )

        found = await asyncio.to_thread(resolved)
        for fill in found.fills:
            await self._fill(fill, root)
        return found.mounts

    async def _fill(self, fill: Fill, root: Sequence[Mount]) -> None:
        """Begin a new volume with what the image has in its place; one that holds anything stays as it is."""
        name = fill.volume.name
        lock = self._filling.setdefault(name, asyncio.Lock())
        async with lock:
            if await asyncio.to_thread(self._volumes.begin_to_fill, name):
                await self._rootfs.copy(root, fill.target, self._volumes.data(name))
                await asyncio.to_thread(self._volumes.end_to_fill, name)
        self._filling.pop(name, None)

    async def attach(
        self, assignment: Assignment, files: ContainerFiles, ports: tuple[HostPort, ...]
    ) -> tuple[Attachment, str, tuple[Bind, ...]]:
        """Join the task's networks and write its name files; return its place, its host name and the files' mounts."""
        container = assignment.version.task.container
        attachment = await self._networks.attach(assignment, ports)
        hostname = expand(container.hostname, assignment, self._node()) or assignment.id[:HOSTNAME_CHARACTERS]
        files.keep_attachment(attachment)
        return attachment, hostname, files.write_names(hostname, attachment, container.hosts)

    def spec(
        self,
        assignment: Assignment,
        image: Image,
        user: User,
        attached: tuple[Attachment, str, tuple[Bind, ...]],
        mounts: tuple[Any, ...],
    ) -> dict[str, Any]:
        """Return the runtime spec."""
        task = assignment.version.task
        attachment, hostname, names = attached
        node = self._node()
        ours = {"HOSTNAME": hostname, **({} if assignment.local else identity_variables(assignment, node))}
        if task.container.tty:
            ours["TERM"] = "xterm"
        env = environment(image.config, ours, spec_variables(assignment, node))
        env.setdefault("HOME", user.home)
        own = (*names, *_init(task.container.init, self._abilities))
        bundle = Bundle(
            hostname=hostname,
            user=user,
            env=env,
            netns=attachment.netns,
            cgroup=self._cgroup(assignment.id),
            mounts=(*own, *mounts),
        )
        return build_spec(task, image.config, bundle, self._abilities)

    async def record(self, assignment: Assignment, image: Image, spec: dict[str, Any]) -> None:
        """Make the container's record, or give the one that is there this spec."""
        stop_signal = signal_number(assignment.version.task.container.stop_signal or image.config.stop_signal)
        record = Container(
            id=assignment.id,
            image=image.name,
            labels={
                **image_labels(image),
                f"{_LABEL}.task.name": assignment.name,
                f"{_LABEL}.service.id": assignment.service_id,
                STOP_SIGNAL_LABEL: str(stop_signal),
            },
            spec=spec,
            snapshotter=self._images.snapshotter,
            snapshot_key=assignment.id,
        )
        try:
            await self._client.containers.create(record)
        except SwarmError as error:
            if error.code is not Code.ALREADY_EXISTS:
                raise
            await self._client.containers.set_spec(assignment.id, spec)


def _init(wanted: bool, abilities: Abilities) -> tuple[Bind, ...]:
    return (Bind(str(Path(init_program(abilities)).resolve()), INIT_TARGET, read_only=True),) if wanted else ()
