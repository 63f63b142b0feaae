"""What the room decides without containerd: driver, record, figures, events, mounts."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from swarmpy.errors import Code, SwarmError
from worker.containerd.api import events_pb2, metrics_v1_pb2, metrics_v2_pb2, task_events_pb2
from worker.containerd.driver import pick
from worker.containerd.ending import mounts_below
from worker.containerd.events import read_event
from worker.containerd.metrics import read_metrics
from worker.containerd.runtime import NOT_SAID, namespace_of, read_runtime
from worker.containerd.transport import seconds, to_error
from worker.containerd.types import OtherEvent, TaskExit, TaskMetrics, TaskOOM

WORKS = {"overlayfs": "", "native": "", "btrfs": "must be a btrfs filesystem"}


@pytest.mark.parametrize(
    ("asked", "begun", "known", "driver"),
    [
        ("", "", WORKS, "overlayfs"),
        ("", "", {**WORKS, "overlayfs": "no"}, "native"),
        ("", "native", WORKS, "native"),
        ("native", "", WORKS, "native"),
        ("native", "native", WORKS, "native"),
        ("", "", {"devmapper": "", "native": ""}, "native"),
        ("devmapper", "", {"devmapper": ""}, "devmapper"),
    ],
)
def test_the_driver_is_what_was_asked_for_then_what_was_begun_then_the_best(
    asked: str, begun: str, known: dict[str, str], driver: str
) -> None:
    assert pick(asked, begun, known) == driver


@pytest.mark.parametrize(
    ("asked", "begun", "known", "words"),
    [
        ("native", "overlayfs", WORKS, "kept by the storage driver overlayfs"),
        ("btrfs", "", WORKS, "does not work on this node: must be a btrfs"),
        ("", "btrfs", WORKS, "btrfs does not work on this node"),
        ("zfs", "", WORKS, "no storage driver zfs, only btrfs, native, overlayfs"),
        ("", "", {"overlayfs": "no kernel", "native": "no disk"}, "native: no disk; overlayfs: no kernel"),
        ("", "", {"devmapper": ""}, "no storage driver that works"),
    ],
)
def test_a_driver_that_cannot_be_is_refused(asked: str, begun: str, known: dict[str, str], words: str) -> None:
    with pytest.raises(SwarmError, match=words) as caught:
        pick(asked, begun, known)
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_what_swarmpyd_has_found_is_read(tmp_path: Path) -> None:
    assert read_runtime(tmp_path).missing == NOT_SAID
    (tmp_path / "run").mkdir()
    record = tmp_path / "run" / "containerd.json"
    for wrong in ("", "[]", '{"socket": 3}', '{"socket":"","private":false,"missing":"","driver":""}'):
        record.write_text(wrong)
        found = read_runtime(tmp_path)
        assert (found.socket, found.missing) == (None, NOT_SAID)
    content = {"socket": "/c.sock", "private": True, "missing": "", "driver": "zfs"}
    record.write_text(json.dumps(content))
    found = read_runtime(tmp_path)
    assert (found.socket, found.private, found.driver) == (Path("/c.sock"), True, "zfs")
    assert found.root == tmp_path / "containerd" / "root"
    record.write_text(json.dumps({**content, "private": False}))
    assert read_runtime(tmp_path).root is None
    record.write_text(json.dumps({**content, "socket": "", "missing": "no root"}))
    assert read_runtime(tmp_path).missing == "no root"


def test_a_namespace_belongs_to_one_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert namespace_of(tmp_path) == namespace_of(tmp_path / "link")
    assert namespace_of(tmp_path) != namespace_of(tmp_path / "other")
    assert len(namespace_of(tmp_path)) == len("swarmpy-") + 12


def test_figures_of_both_versions_of_control_groups() -> None:
    one = ParseDict(
        {
            "pids": {"current": 3, "limit": 50},
            "cpu": {"usage": {"total": 7}},
            "memory": {"usage": {"usage": 100, "limit": 0x7FFFFFFFFFFFF000}, "total_inactive_file": 40},
            "blkio": {
                "io_service_bytes_recursive": [
                    {"op": "Read", "value": 1},
                    {"op": "Read", "value": 2},
                    {"op": "Write", "value": 4},
                    {"op": "Total", "value": 7},
                ]
            },
            "memory_oom_control": {"oom_kill": 1},
        },
        metrics_v1_pb2.Metrics(),
    )
    two = ParseDict(
        {
            "pids": {"current": 3, "limit": 50},
            "cpu": {"usage_usec": 2},
            "memory": {"usage": 100, "usage_limit": 0xFFFFFFFFFFFFFFFF, "inactive_file": 40},
            "io": {"usage": [{"rbytes": 1, "wbytes": 4}, {"rbytes": 2}]},
            "memory_events": {"oom_kill": 1},
        },
        metrics_v2_pb2.Metrics(),
    )
    encoded = (("v1", one.SerializeToString(), 7), ("v2", two.SerializeToString(), 2000))
    for name, value, cpu_ns in encoded:
        data = Any(type_url=f"io.containerd.cgroups.{name}.Metrics", value=value)
        assert read_metrics("a", 1.0, data) == TaskMetrics(
            container_id="a",
            at_s=1.0,
            cpu_ns=cpu_ns,
            memory_bytes=100,
            memory_limit_bytes=0,
            memory_cache_bytes=40,
            pids=3,
            pids_limit=50,
            read_bytes=3,
            written_bytes=4,
            oom_kills=1,
        )
    assert read_metrics("a", 1.0, Any(type_url="x")) == TaskMetrics("a", 1.0)


def test_events() -> None:
    ended = task_events_pb2.TaskExit(container_id="a", id="a", pid=4, exit_status=137, exited_at=Timestamp(seconds=9))
    data = Any(type_url="containerd.events.TaskExit", value=ended.SerializeToString())
    assert read_event(events_pb2.Envelope(event=data)) == TaskExit("a", "", 4, 137, 9.0)
    ended.id = "exec"
    data = Any(type_url="types.containerd.io/containerd.events.TaskExit", value=ended.SerializeToString())
    assert read_event(events_pb2.Envelope(event=data)) == TaskExit("a", "exec", 4, 137, 9.0)
    data = Any(type_url="containerd.events.TaskOOM", value=b"\x0a\x01a")
    assert read_event(events_pb2.Envelope(timestamp=Timestamp(seconds=3), event=data)) == TaskOOM("a", 3.0)
    assert read_event(events_pb2.Envelope(topic="/x")) == OtherEvent("/x", 0.0)


def test_a_time_that_is_not_set_is_zero() -> None:
    assert seconds(Timestamp(seconds=-62135596800)) == 0.0
    assert seconds(Timestamp(seconds=5, nanos=500_000_000)) == 5.5


def test_failures_in_our_words() -> None:
    gone = to_error(grpc.StatusCode.UNAVAILABLE, "connection refused", "start x")
    assert (gone.code, gone.retryable) == (Code.UNAVAILABLE, True)
    assert str(gone) == "cannot start x: containerd does not answer (connection refused)"
    held = to_error(grpc.StatusCode.UNAVAILABLE, "ref layer locked: unavailable", "write layer")
    assert str(held) == "cannot write layer: ref layer locked: unavailable"
    assert to_error(grpc.StatusCode.UNKNOWN, "", "x").code is Code.INTERNAL
    assert to_error(grpc.StatusCode.OUT_OF_RANGE, "", "x").code is Code.OUT_OF_SEQUENCE
    assert to_error(grpc.StatusCode.DEADLINE_EXCEEDED, "", "x").retryable


def test_mounts_are_found_top_first_and_only_below() -> None:
    info = (
        "1 0 8:1 / / rw - ext4 d rw\n"
        "2 1 8:1 / /s/run/a\\040b rw - overlay o rw\n"
        "3 2 8:1 / /s/run/a\\040b/proc rw - proc p rw\n"
        "4 1 8:1 / /s/runner rw - tmpfs t rw\n"
        "5 1 8:1 / /s/run rw - tmpfs t rw\n"
    )
    assert mounts_below(Path("/s/run"), info) == ["/s/run/a b/proc", "/s/run/a b"]
