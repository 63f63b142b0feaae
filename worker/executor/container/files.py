"""The files of a task below `tasks/<id>/container/`: its view of names, and what the worker remembers of it.

A process on networks has those of names, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec

from worker.executor.directories import disk_error
from worker.image.config import ImageConfig
from worker.image.types import Image
from worker.network.attachment import Attachment
from worker.network.resolver import Resolver
from worker.oci.facts import Bind

HOSTNAME_CHARACTERS: Final = 12
"""Of a task's id, where no host name is wanted."""
_MODE: Final = 0o644
_IDENTITY: Final = ("name", "digest", "manifest_digest", "config_digest", "chain_id", "size_bytes")
_LOCAL_NAMES: Final = ("127.0.0.1", ("localhost",)), ("::1", ("localhost", "ip6-localhost", "ip6-loopback"))


class ContainerFiles:
    """The files of one task's container. Blocking, all small."""

    def __init__(self, task_directory: Path) -> None:
        self._task = task_directory
        self.root = task_directory / "container"

    def make(self) -> None:
        """
        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the disk is full or cannot be written.
        """
        try:
            self.root.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise disk_error(self.root, error) from error

    def keep_image(self, image: Image) -> None:
        """Remember the image's config as it was when the task was prepared: the name may stand for another later."""
        self._write("image.json", image.raw_config)
        known = {name: getattr(image, name) for name in _IDENTITY}
        self._write("image.id.json", msgspec.json.encode(known))

    def image(self) -> Image | None:
        """Return the image as it was when the container was prepared first; None if it never was.

        Raises:
            SwarmError: CORRUPT, a file is damaged.
        """
        config = self.image_config()
        try:
            known = msgspec.json.decode((self.root / "image.id.json").read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.DecodeError):
            return None
        if config is None:
            return None
        return Image(**known, config=config, raw_config=(self.root / "image.json").read_bytes())

    def image_config(self) -> ImageConfig | None:
        """Return what `keep_image` kept; None if the task was never prepared.

        Raises:
            SwarmError: CORRUPT, the file is damaged.
        """
        path = self.root / "image.json"
        try:
            return ImageConfig.decode(path.read_bytes(), str(path))
        except FileNotFoundError:
            return None

    def keep_attachment(self, attachment: Attachment) -> None:
        """Remember the task's place in the networks, for probes after a restart of the worker."""
        self._write("attachment.json", msgspec.json.encode(asdict(attachment)))

    def attachment(self) -> Attachment | None:
        """Return what `keep_attachment` kept; None if there is none that can be read."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self.root / "attachment.json").read_bytes(), type=Attachment)
        return None

    def keep_spec(self, spec: dict[str, Any]) -> None:
        """Remember the runtime spec: commands beside the container's own run like it."""
        self._write("spec.json", msgspec.json.encode(spec))

    def spec(self) -> dict[str, Any] | None:
        """Return what `keep_spec` kept; None if there is none that can be read."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self.root / "spec.json").read_bytes(), type=dict[str, Any])
        return None

    def write_names(self, hostname: str, attachment: Attachment, hosts: Iterable[str]) -> tuple[Bind, ...]:
        """Write hostname, hosts and resolv.conf, and return the mounts that show them to the container.

        Args:
            hosts: further lines of the hosts file, `name:address` as Docker has it, or `address name...`.
        """
        own = ((address, (hostname,)) for address in attachment.own)
        rows = [*_LOCAL_NAMES, *own, *map(_host_row, hosts)]
        texts = {
            "hostname": f"{hostname}\n",
            "hosts": "".join(f"{address}\t{' '.join(names)}\n" for address, names in rows),
            "resolv.conf": resolver_text(attachment.resolver),
        }
        for name, text in texts.items():
            self._write(name, text.encode())
        return tuple(Bind(str(self.root / name), f"/etc/{name}") for name in texts)

    def stdin(self) -> Path:
        """Return the FIFO of the container's standard input, made if it is missing."""
        path = self._task / "stdin"
        try:
            if not path.exists():
                os.mkfifo(path, 0o600)
        except OSError as error:
            raise disk_error(path, error) from error
        return path

    def fifos(self, exec_id: str) -> tuple[Path, Path]:
        """Make the FIFOs of a command run beside the container's own; return standard output and error."""
        directory = self._task / "exec" / exec_id
        shutil.rmtree(directory, ignore_errors=True)  # of a former worker, with a command that has ended by now
        try:
            directory.mkdir(parents=True, mode=0o700)
            made = (directory / "stdout", directory / "stderr")
            for path in made:
                os.mkfifo(path, 0o600)
        except OSError as error:
            raise disk_error(directory, error) from error
        return made

    def remove_fifos(self, exec_id: str) -> None:
        shutil.rmtree(self._task / "exec" / exec_id, ignore_errors=True)

    def _write(self, name: str, data: bytes) -> None:
        """Write a file in place: a container that runs has it mounted, so it must stay the same one."""
        path = self.root / name
        try:
            path.write_bytes(data)
            path.chmod(_MODE)
        except OSError as error:
            raise disk_error(path, error) from error


def resolver_text(resolver: Resolver) -> str:
    """Return the text of resolv.conf."""
    lines = [f"nameserver {server}" for server in resolver.servers]
    if resolver.search:
        lines.append(f"search {' '.join(resolver.search)}")
    if resolver.options:
        lines.append(f"options {' '.join(resolver.options)}")
    return "".join(f"{line}\n" for line in lines)


def _host_row(entry: str) -> tuple[str, tuple[str, ...]]:
    """Return address and names of `name:address` (an IPv6 address may hold colons) or `address name...`."""
    if " " in entry.strip():
        address, *names = entry.split()
        return address, tuple(names)
    name, _, address = entry.partition(":")
    return address, (name,)
