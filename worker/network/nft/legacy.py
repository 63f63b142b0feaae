"""The tables that iptables had before nf_tables: they have no netlink, so that their own program is called."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from swarmpy.errors import Code, SwarmError

IN_USE: Final = Path("/proc/thread-self/net/ip_tables_names")
PROGRAMS: Final = (("iptables-legacy",), ("/usr/sbin/iptables-legacy",), ("iptables",), ("/usr/sbin/iptables",))
PATIENCE_S: Final = 10
CHAIN: Final = "FORWARD"
USER_CHAIN: Final = "DOCKER-USER"


class LegacyTables:
    """The older tables of one network namespace; nothing is called while they are not in use.

    Args:
        programs: commands of which the first that is installed and speaks of these tables is taken.
        in_use: the kernel's list of the tables that are in use in the namespace.
    """

    def __init__(self, programs: Sequence[Sequence[str]] = PROGRAMS, in_use: Path = IN_USE) -> None:
        self._programs = programs
        self._in_use = in_use

    def ensure(self, mark: str, prefix: str) -> tuple[str, ...]:
        """Put two accept rules with this comment into FORWARD, if it is in use; return sentences on why they cannot be.

        Raises:
            SwarmError: the program refuses.
        """
        if not self.are_used():
            return ()
        program = self._program()
        if program is None:
            return (
                "the host's packet filter (iptables, legacy) is in use, but its program is not installed: if its chain"
                f" {CHAIN} drops, tasks reach no network; install iptables",
            )
        rules = [line for line in self._run(program, "-S", CHAIN) if line[0] == "-A"]
        ours = [line for line in rules if mark in line]
        if len(ours) == 2:
            return ()
        self._delete(program, ours)
        rules = [line for line in rules if mark not in line]
        place = next((number for number, line in enumerate(rules, 1) if line[-2:] == ["-j", USER_CHAIN]), 0) + 1
        for way in ("-o", "-i"):
            words = (way, f"{prefix}+", "-m", "comment", "--comment", mark, "-j", "ACCEPT")
            self._run(program, "-I", CHAIN, str(place), *words)
        return ()

    def remove(self, mark: str) -> None:
        """Remove the rules with this comment; without any there is nothing to do.

        Raises:
            SwarmError: the program refuses.
        """
        program = self._program() if self.are_used() else None
        if program is not None:
            self._delete(program, [line for line in self._run(program, "-S", CHAIN) if mark in line])

    def _delete(self, program: Sequence[str], rules: Sequence[Sequence[str]]) -> None:
        for line in rules:
            self._run(program, "-D", *line[1:])

    def are_used(self) -> bool:
        """Whether the machine's packet filter is one of these tables."""
        try:
            return "filter" in self._in_use.read_text().split()
        except FileNotFoundError:
            return False  # a kernel without them

    def _program(self) -> Sequence[str] | None:
        for program in self._programs:
            try:
                if any("legacy" in word for line in self._run(program, "--version") for word in line):
                    return program
            except SwarmError as error:
                if error.code != Code.NOT_FOUND:
                    raise
        return None

    def _run(self, program: Sequence[str], *words: str) -> list[list[str]]:
        """Run the program and return the words of each line that it prints."""
        wait = () if words == ("--version",) else ("-w", "5")  # for others that change the tables
        command = [*program, *wait, *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        except FileNotFoundError as error:
            raise SwarmError(Code.NOT_FOUND, f"{program[0]} is not installed") from error
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or error
            raise SwarmError(Code.FAILED_PRECONDITION, f"{shlex.join(command)} failed: {str(said).strip()}") from error
        return [shlex.split(line) for line in done.stdout.splitlines()]
