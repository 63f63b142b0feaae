"""Scenarios as text: commands, each followed by what it answered; REWRITE=1 writes the answers anew.

A file is a row of cases apart by blank lines: lines of the command, `----`, lines of the answer. Lines that begin
with `#` before a command are for the reader.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def run_scenario(path: Path, execute: Callable[[list[str]], str]) -> None:
    """Give each command of `path` (its words) to `execute` and compare the answers with the file's."""
    written = path.read_text()
    cases: list[str] = []
    for case in written.strip().split("\n\n"):
        command, _, _ = case.partition("\n----")
        lines = [line for line in command.splitlines() if not line.startswith("#")]
        assert len(lines) == 1, f"{path.name}: one command a case, not {lines}"
        cases.append(f"{command}\n----\n{execute(lines[0].split()).strip()}")
    result = "\n\n".join(cases) + "\n"
    if os.environ.get("REWRITE") == "1":
        path.write_text(result)
    assert result == path.read_text(), f"{path.name} answers otherwise; look at the diff after REWRITE=1"
