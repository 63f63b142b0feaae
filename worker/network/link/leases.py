"""Who has which address, kept in a directory: one symbolic link an address, whose target is its owner.

A link is made, and put in place of another, in one step that never waits for the disk; and nothing is rewritten that
did not change. What is kept need not outlive the machine: no network namespace does.
"""

from __future__ import annotations

import errno
import os
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from swarmpy.errors import Code, SwarmError
from worker.network.link.pool import Leases

_HELD: Final = "task:"
_FREED: Final = "free:"
_SCRATCH: Final = "new"


class LeaseDirectory:
    """The kept leases of one node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, subnet: IPv4Network) -> Leases:
        """Return the leases of a subnet; what is there of another one, or is not ours, is left out."""
        leases = Leases(subnet)
        try:
            entries = list(self._directory.iterdir())
        except FileNotFoundError:
            return leases
        for entry in entries:
            try:
                address, target = IPv4Address(entry.name), str(entry.readlink())
            except (AddressValueError, OSError):
                continue
            if address not in subnet:
                continue
            if target.startswith(_HELD):
                leases.held[target.removeprefix(_HELD)] = address
            elif target.startswith(_FREED):
                leases.freed_s[address] = float(target.removeprefix(_FREED))
        # The turn goes on behind the last one that was ever given.
        used = [*leases.held.values(), *leases.freed_s]
        leases.cursor = (int(max(used)) - int(leases.gateway)) % leases.size if used else 0
        return leases

    def hold(self, address: IPv4Address, owner: str) -> None:
        """Note that `owner` has an address.

        Raises:
            SwarmError: the disk is full or refuses; the note is the old one.
        """
        self._note(address, _HELD + owner)

    def free(self, address: IPv4Address, at_s: float) -> None:
        """Note that nobody has an address any more, and since when."""
        self._note(address, f"{_FREED}{at_s!r}")

    def _note(self, address: IPv4Address, target: str) -> None:
        scratch = self._directory / _SCRATCH
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            scratch.unlink(missing_ok=True)
            scratch.symlink_to(target)
            scratch.replace(self._directory / str(address))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            code = Code.RESOURCE_EXHAUSTED if full else Code.FAILED_PRECONDITION
            sentence = f"cannot note in {self._directory} who has {address}: {os.strerror(error.errno or 0)}"
            raise SwarmError(code, sentence) from error
