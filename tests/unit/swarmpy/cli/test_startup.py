"""Help costs nothing: it loads none of what talking to a cluster needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("grpc", "google.protobuf", "rich", "structlog", "asyncio", "yaml", "tenacity", "platformdirs")

PROGRAM = """
import json, sys
from swarmpy.cli.main import run
from swarmpy.cli.session import Session
status = run(sys.argv[1:], Session(out=sys.stderr, err=sys.stderr, environ={}))
print(json.dumps([status, sorted(sys.modules)]))
"""


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "version",
        "service --help",
        "service create --help",
        "service update --help",
        "service ls --help",
        "service ps --help",
        "node --help",
        "node ls --help",
        "swarm init --help",
        "stack deploy --help",
        "secret ls",
        "run --help",
        "image --help",
        "image pull --help",
        "image build --help",
        "volume ls --help",
        "login --help",
        "container --help",
        "ps --help",
        "exec --help",
        "cp --help",
    ],
)
def test_help_loads_nothing_heavy(line: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *line.split()], capture_output=True, text=True, check=True)
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == (1 if line == "secret ls" else 0), done.stderr
    assert not [name for name in HEAVY if name in modules]


def test_drawing_alone_loads_rich() -> None:
    program = "import sys, swarmpy.client, swarmpy.cli.service.wait, swarmpy.cli.deploy; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
