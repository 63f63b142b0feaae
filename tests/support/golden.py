"""Command-line sessions as text: what was typed, what was printed, how it ended. REWRITE=1 writes them anew.

# a remark
% a word to the test (see the test's directives)
$ swarmpy service ls
what went to standard output
! what went to standard error
[exit 1]            only where it is not 0
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    out: str
    err: str
    status: int

    def text(self) -> str:
        lines = [*self.out.splitlines(), *(f"! {line}" for line in self.err.splitlines())]
        if self.status:
            lines.append(f"[exit {self.status}]")
        return "\n".join(line.rstrip() for line in lines)


def run_golden(path: Path, run: Callable[[str], Outcome], direct: Callable[[str], None]) -> None:
    """Run each command of a session and hold what it printed against the file.

    Args:
        run: runs a command line.
        direct: does what a `%` line says.
    """
    written = path.read_text()
    blocks = []
    for block in _blocks(written):
        head = [line for line in block if line.startswith(("#", "%", "$"))]
        answers = []
        for line in head:
            if line.startswith("% "):
                direct(line[2:])
            elif line.startswith("$ "):
                answers.append(run(line[2:]).text())
        blocks.append("\n".join((*head, *filter(None, answers))))
    result = "\n\n".join(blocks) + "\n"
    if os.environ.get("REWRITE") == "1":
        path.write_text(result)
    assert result == path.read_text(), f"{path.name} answers otherwise; look at the diff after REWRITE=1"


def _blocks(text: str) -> list[list[str]]:
    """Return the lines of each block: remarks, directives, one command, and what was printed."""
    blocks: list[list[str]] = [[]]
    has_command = False
    for line in text.splitlines():
        if line.startswith(("#", "%", "$")) and has_command:
            blocks.append([])
            has_command = False
        has_command = has_command or line.startswith("$")
        blocks[-1].append(line)
    return blocks
