"""A command line against a cluster of straw."""

from __future__ import annotations

import io
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from swarmpy.cli.main import run
from swarmpy.cli.session import Session
from tests.support.control import NOW, FakeCluster
from tests.support.control_server import FakeServer
from tests.support.golden import Outcome


@dataclass
class Shell:
    """Runs commands in this process, five seconds after everything happened."""

    state_dir: Path
    environ: dict[str, str] = field(default_factory=dict)
    stdin: str = ""

    def __call__(self, line: str) -> Outcome:
        words = shlex.split(line)
        assert words[0] == "swarmpy", line
        out, err = io.StringIO(), io.StringIO()
        session = Session(
            out=out,
            err=err,
            environ=self.environ,
            state_dir=self.state_dir,
            timeout_s=5.0,
            now=lambda: NOW + 5,
            stdin=lambda: io.TextIOWrapper(io.BytesIO(self.stdin.encode())),
        )
        status = run(words[1:], session)
        return Outcome(out.getvalue(), err.getvalue(), status)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell whose node does not run."""
    return Shell(tmp_path)


@pytest.fixture
def manager(tmp_path: Path, cluster: FakeCluster, shell: Shell) -> Iterator[Shell]:
    """A shell on a manager of `cluster`."""
    with FakeServer(cluster, tmp_path):
        yield shell
