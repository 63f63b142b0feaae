"""Where the sockets are."""

from __future__ import annotations

from pathlib import Path

from swarmpy.client.paths import ROOT_STATE_DIR, sockets, state_dir


def test_flag_then_environment_then_user() -> None:
    environ = {"SWARMPY_STATE_DIR": "/srv/node"}
    assert state_dir(Path("/given"), environ) == Path("/given")
    assert state_dir(None, environ) == Path("/srv/node")
    assert state_dir(None, {}, uid=0) == ROOT_STATE_DIR
    assert state_dir(None, {}, uid=1000).name == "swarmpy"
    assert state_dir(Path("here"), {}).is_absolute()


def test_both_sockets_are_in_run() -> None:
    at = sockets(Path("/n"))
    assert (at.control, at.node) == (Path("/n/run/control.sock"), Path("/n/run/node.sock"))
