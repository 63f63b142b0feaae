"""What runc says, in words for people."""

from __future__ import annotations

import pytest

from swarmpy.errors import Code, SwarmError
from worker.executor.container.failures import start_failure

LAYERS = (
    "cannot create the task of container one: failed to create shim task: OCI runtime create failed:"
    " runc create failed: unable to start container process: "
)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ('exec: "nope": executable file not found in $PATH: unknown', "command not found: 'nope' is in no directory"),
        ('exec: "/no": stat /no: no such file or directory: unknown', "command not found: the image has no '/no'"),
        ('exec: "/etc": permission denied: unknown', "command '/etc' of the image is not executable"),
        ("exec /run.sh: no such file or directory", "its interpreter or loader is not in the image"),
        ("exec /bin/sh: exec format error", "for another platform than this node's"),
        ("error mounting: oh no: unknown", "the container cannot be started: runc create failed: unable to start"),
    ],
)
def test_causes(said: str, sentence: str) -> None:
    failure = start_failure(SwarmError(Code.INTERNAL, LAYERS + said))
    assert sentence in failure.message
    assert not failure.retryable
    assert "unknown" not in failure.message


def test_what_may_pass_is_tried_again() -> None:
    away = SwarmError(Code.UNAVAILABLE, "containerd does not answer")
    assert start_failure(away) is away
    place = "/s/io.containerd.runtime.v2.task/swarmpy-1/one"
    assert start_failure(SwarmError(Code.INTERNAL, f"failed to start shim: mkdir {place}: file exists")).retryable
