"""What a command is given: the node to talk to, the streams to write to, a clock, an environment."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from swarmpy.errors import invalid

if TYPE_CHECKING:
    from swarmpy.client import Client
    from swarmpy.clock import Clock

T = TypeVar("T")


def _standard_input() -> TextIO:
    if sys.stdin is None:
        raise invalid("standard input is closed, so there is nothing to read from it: name a file")
    return sys.stdin


@dataclass(frozen=True)
class Session:
    """One run of the command line.

    Args:
        terminal: whether `out` is a terminal, so that progress may be redrawn in place.
        timeout_s: deadline of each call, seconds.
        stale: whether reads take what this node's manager has, current or not.
        clock: None takes the machine's, once something waits.
        now: wall seconds, for "5 seconds ago".
    """

    out: TextIO
    err: TextIO
    environ: Mapping[str, str]
    terminal: bool = False
    state_dir: Path | None = None
    timeout_s: float = 10.0
    stale: bool = False
    clock: Clock | None = None
    now: Callable[[], float] = field(default=time.time)
    stdin: Callable[[], TextIO] = field(default=_standard_input)

    @classmethod
    def of_process(cls) -> Session:
        return cls(out=sys.stdout, err=sys.stderr, environ=os.environ, terminal=sys.stdout.isatty())

    def echo(self, text: str = "") -> None:
        """Write a line to standard output."""
        self.out.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """Write a line to standard error."""
        self.err.write(f"{text}\n")

    def run(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` returns, given a client of the node.

        Raises:
            click.Abort: the user pressed Ctrl-C.
        """
        import asyncio

        from swarmpy.client import Client

        async def with_client() -> T:
            async with Client.connect(
                state_dir=self.state_dir,
                timeout_s=self.timeout_s,
                environ=self.environ,
                clock=self.clock,
                stale=self.stale,
            ) as client:
                return await work(client)

        try:
            return asyncio.run(with_client())
        except KeyboardInterrupt as error:
            # Of click's own kind: it would write an empty line to standard error for the other.
            raise click.Abort("Interrupted.") from error
