"""Scenarios as text whose blocks have several commands: their lines, `----`, and what they must give.

Blocks are apart by blank lines; lines that begin with `#` are for the reader. With REWRITE=1 in the environment a
run writes what it got into the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

SEPARATOR = "----"


def check_scenario(path: Path, run: Callable[[list[str]], list[str]]) -> None:
    """Give each block's commands to `run`, and compare the lines that it returns with the block's."""
    expected = path.read_text()
    blocks = []
    for block in expected.strip("\n").split("\n\n"):
        lines = block.splitlines()
        end = lines.index(SEPARATOR) if SEPARATOR in lines else len(lines)
        commands = [line for line in lines[:end] if not line.startswith("#")]
        blocks.append("\n".join([*lines[:end], SEPARATOR, *run(commands)]))
    got = "\n\n".join(blocks) + "\n"
    if os.environ.get("REWRITE") == "1":
        path.write_text(got)
    assert got == path.read_text(), f"{path.name} gives other results; look at the diff after REWRITE=1"
