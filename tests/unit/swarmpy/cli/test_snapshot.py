"""`swarmpy swarm snapshot` and `swarmpy swarm init --force-new-cluster`, held against their exact words."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.snapshot.format import MAGIC, START, start_crc
from tests.support.control import FakeCluster
from tests.support.golden import Outcome
from tests.support.snapshots import encode, write
from tests.unit.swarmpy.cli.conftest import Shell

KEYS = "The file holds the swarm's keys and join tokens: keep it where nobody else can read it.\n"
OTHER = "use another copy of it, or another snapshot"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of one's own, so that files are named as they were typed."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def refused(outcome: Outcome) -> str:
    assert (outcome.out, outcome.status) == ("", 1)
    assert outcome.err.startswith("Error: ")
    assert outcome.err.endswith("\n")
    return outcome.err[len("Error: ") : -1]


def test_save(manager: Shell, cluster: FakeCluster, here: Path) -> None:
    cluster.snapshot = encode()
    outcome = manager("swarmpy swarm snapshot save a.snap")
    size = len(cluster.snapshot)
    saved = f"Saved revision 7 of swarm cluster100000000000000000 to a.snap ({size}B).\n"
    assert outcome == Outcome(saved + KEYS, "", 0)
    file = here / "a.snap"
    assert (file.read_bytes(), file.stat().st_mode & 0o777, names(here)) == (cluster.snapshot, 0o600, ["a.snap"])


def test_a_save_that_fails_leaves_the_file_as_it_was(manager: Shell, cluster: FakeCluster, here: Path) -> None:
    cluster.snapshot = encode()
    (here / "a.snap").write_text("the one before")
    cluster.failures = [SwarmError(Code.UNAVAILABLE, "no manager leads", retryable=False)]
    assert refused(manager("swarmpy swarm snapshot save a.snap")) == "no manager leads"
    cluster.snapshot = encode()[:-1]
    assert refused(manager("swarmpy swarm snapshot save a.snap")) == (
        f"a.snap.tmp is cut off after {len(cluster.snapshot)} bytes: it was not copied whole; {OTHER}"
    )
    assert (names(here), (here / "a.snap").read_text()) == (["a.snap"], "the one before")


def test_a_save_to_a_place_that_is_none(manager: Shell, here: Path) -> None:
    (here / "dir").mkdir()
    answers = {
        "dir": "dir is there and is not a file: choose another name",
        "/dev/full": "/dev/full is there and is not a file: choose another name",
        "none/a.snap": "cannot write none/a.snap: no such file or directory; nothing was saved",
    }
    for place, sentence in answers.items():
        assert refused(manager(f"swarmpy swarm snapshot save {place}")) == sentence


def test_a_save_without_space(manager: Shell, cluster: FakeCluster, here: Path) -> None:
    cluster.snapshot = encode([bytes(100_000)])
    # No byte beyond 8 blocks may be written, just as on a full disk.
    program = shlex.join([sys.executable, "-c", "from swarmpy.cli.main import main; main()"])
    command = f"ulimit -f 8; exec {program} --state-dir {manager.state_dir} swarm snapshot save a.snap"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert refused(Outcome(ended.stdout, ended.stderr, ended.returncode)) == (
        "cannot write a.snap: file too large; nothing was saved"
    )
    assert names(here) == []


def test_inspect_needs_no_node(shell: Shell, here: Path) -> None:
    size = write(here / "a.snap").stat().st_size
    outcome = shell("swarmpy swarm snapshot inspect a.snap")
    assert (outcome.err, outcome.status) == ("", 0)
    *lines, checksum, last = outcome.out.splitlines()
    assert lines == [
        "Swarm:            cluster100000000000000000",
        "Saved:            2023-11-14T22:13:20.000000Z by swarmpy 0.1.0",
        "Revision:         7 (log entry 9, term 2)",
        "Feature level:    2",
        "Nodes:            3",
        "Service versions: 0",
        f"Size:             {size}B",
    ]
    assert checksum.startswith("SHA-256:          ")
    assert checksum.endswith(" (sound)")
    assert f"{last}\n" == KEYS
    assert "the key" not in outcome.out


@pytest.mark.parametrize("verb", ["inspect", "restore"])
def test_bad_files(shell: Shell, here: Path, verb: str) -> None:
    sound = encode()
    flipped = bytearray(sound)
    flipped[200] ^= 1
    files = {
        "empty": (b"", "empty is cut off after 0 bytes: it was not copied whole; " + OTHER),
        "cut": (sound[:300], f"cut is cut off after 300 bytes: it was not copied whole; {OTHER}"),
        "flipped": (bytes(flipped), f"flipped is damaged at byte 16: a checksum is wrong; {OTHER}"),
        "longer": (sound + b"x", f"longer is damaged at byte {len(sound)}: something stands behind its end; {OTHER}"),
        "newer": (
            START.pack(MAGIC, 3, start_crc(3)),
            "newer has snapshot format 3, this swarmpy reads up to format 1: use the release that wrote it, "
            "or a newer one",
        ),
        "other": (b"#!/bin/sh\n" * 20, "other is not a swarmpy snapshot: it begins otherwise"),
    }
    assert len(files["cut"][0]) < len(sound)
    for name, (data, sentence) in files.items():
        (here / name).write_bytes(data)
        assert refused(shell(f"swarmpy swarm snapshot {verb} {name}")) == sentence
    assert refused(shell(f"swarmpy swarm snapshot {verb} none")) == "cannot read none: no such file or directory"
    assert refused(shell(f"swarmpy swarm snapshot {verb} .")) == "cannot read .: is a directory"


def test_restore(manager: Shell, cluster: FakeCluster, here: Path) -> None:
    cluster.snapshot = encode([bytes(3_000_000)])
    (here / "a.snap").write_bytes(cluster.snapshot)
    assert refused(manager("swarmpy swarm snapshot restore a.snap")) == (
        "this node is already part of a swarm: leave it first with `swarmpy swarm leave`"
    )
    cluster.info.cluster_id = ""
    outcome = manager("swarmpy swarm snapshot restore --advertise-addr 10.0.0.1:2377 a.snap")
    assert outcome == Outcome(
        "Swarm restored: current node (node100000000000000000000) is now its manager, at 10.0.0.1:2377.\n\n"
        "- kept: this\n- not kept: that\n",
        "",
        0,
    )


def test_force_new_cluster(manager: Shell) -> None:
    assert manager("swarmpy swarm init --force-new-cluster") == Outcome(
        "Swarm begun anew: current node (node100000000000000000000) is now its only manager.\n\n"
        "- kept: this\n- given up: that\n",
        "",
        0,
    )
    outcome = manager("swarmpy swarm init --force-new-cluster --task-history-limit 3")
    assert (outcome.status, outcome.err) == (
        2,
        "Error: --force-new-cluster keeps the swarm's settings: give --advertise-addr and --listen-addr with it at "
        "most (see 'swarmpy swarm init --help')\n",
    )
