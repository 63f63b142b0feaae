"""The terminal of the demo: types commands, shows what they print, and checks what was promised."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Final

from scripts.cluster import ROOT

FINISH_DEADLINE_S: Final = 30.0
BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class NotAsPromised(Exception):  # noqa: N818  # it reads as what it is
    """A step of the demo did not do what it says."""


class Terminal:
    """Types commands, shows what they print, and keeps it for checking."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def say(self, text: str) -> None:
        print(f"\n{BOLD}# {text}{PLAIN}", flush=True)

    def run(self, command: str, *, shown: str = "") -> str:
        """Type a command; return what it printed.

        Raises:
            NotAsPromised: its exit status is not 0.
        """
        self.type(shown or command)
        lines = []
        with subprocess.Popen(
            ["bash", "-c", command], env=self.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as done:
            assert done.stdout is not None, "the output is a pipe"
            try:
                for line in done.stdout:
                    print(line, end="", flush=True)
                    lines.append(line)
            except KeyboardInterrupt:
                done.kill()
                raise
        if done.returncode:
            raise NotAsPromised(f"`{shown or command}` ended with status {done.returncode}")
        return "".join(lines)

    def watch(self, command: str) -> None:
        """Type a command that draws progress: it has the terminal to itself. Raises as `run` does."""
        self.type(command)
        status = subprocess.run(["bash", "-c", command], env=self.environment, cwd=ROOT, check=False).returncode
        if status:
            raise NotAsPromised(f"`{command}` ended with status {status}")

    def start(self, command: str) -> subprocess.Popen[str]:
        """Type a command that runs in the background, its output in a pipe."""
        self.type(f"{command} &")
        words = ["bash", "-c", f"exec {command}"]
        return subprocess.Popen(words, env=self.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def ask(self, command: str) -> str:
        """Run a command without showing it."""
        done = subprocess.run(
            ["bash", "-c", command], env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout

    def finish(self, started: subprocess.Popen[str]) -> str:
        """End a command that runs in the background; return what it printed, having shown it."""
        started.send_signal(signal.SIGTERM)
        printed = started.communicate(timeout=FINISH_DEADLINE_S)[0]
        print(printed, end="", flush=True)
        return printed

    def type(self, command: str) -> None:
        """Show a command, as if it had been typed."""
        print(f"{BOLD}$ {command}{PLAIN}", flush=True)

    def note(self, text: str) -> None:
        print(f"{DIM}  {text}{PLAIN}", flush=True)


def promise(kept: bool, what: str) -> None:
    """Fail the demo unless `kept`; `what` says what was promised."""
    if not kept:
        raise NotAsPromised(what)
    print(f"{DIM}  ok: {what}{PLAIN}", flush=True)
