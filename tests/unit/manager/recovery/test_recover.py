"""Beginning anew with one manager: what is kept, and that it can be cut off anywhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest

from manager.api.snapshots import save_snapshot
from manager.place import Place
from manager.raft.log.disk import Disk
from manager.raft.log.replay import replay
from manager.raft.types import ConfState, Metadata
from manager.recovery.recover import recover
from manager.recovery.source import Source, read_log
from manager.store.store import Store
from manager.store.tables import CLUSTERS, CONFIGS, NODES
from swarmpy.errors import Code, SwarmError
from swarmpy.files import write_atomic
from swarmpy.model import features
from swarmpy.model.cluster import Cluster
from swarmpy.model.config import Config, ConfigSpec
from swarmpy.model.node import ManagerStatus, Node, NodeDescription, NodeSpec
from swarmpy.model.recovery import ORDER_FILE, REPORT_FILE, STATE_FILE, RecoveryKind, RecoveryOrder, RecoveryReport
from swarmpy.model.states import NodeRole, NodeState
from swarmpy.security.identity import Identity
from tests.support.clock import FakeClock
from tests.support.recovery import CutOff, CuttingDisk, counting_bytes, leave_log, sealer_of
from tests.support.store import FakeProposer, put, running_store

CLUSTER: Final = Cluster(id="cluster1", next_raft_id=4, feature_level=features.LEVEL)
NOW_S: Final = 1_700_000_000.0
FORCE: Final = RecoveryOrder(id="order1", kind=RecoveryKind.FORCE)
RESTORE: Final = RecoveryOrder(id="order2", kind=RecoveryKind.RESTORE, hostname="m9")
ADDR: Final = "10.0.0.1:2377"


def manager(number: int) -> Node:
    status = ManagerStatus(raft_id=number, addr=f"10.0.0.{number}:2377", leader=number == 2, reachable=True)
    return Node(
        id=f"n{number}",
        spec=NodeSpec(role=NodeRole.MANAGER),
        description=NodeDescription(hostname=f"m{number}"),
        state=NodeState.READY,
        manager=status,
    )


def identity(node_id: str = "n1", cluster_id: str = "cluster1") -> Identity:
    return Identity(
        cluster_id=cluster_id, node_id=node_id, role=NodeRole.MANAGER, key_pem=b"", cert_pem=b"", root_pem=b""
    )


async def fill(store: Store) -> None:
    await put(store, CLUSTERS, CLUSTER)
    await put(store, NODES, manager(1), manager(2), manager(3), Node(id="w1", state=NodeState.READY))
    await put(store, CONFIGS, Config(id="c1", spec=ConfigSpec(name="first", data=b"x")))
    await put(store, CONFIGS, Config(id="c2", spec=ConfigSpec(name="second", data=b"y")))


@pytest.fixture
async def entries() -> list[bytes]:
    """Four entries: the cluster, its nodes, and two configs."""
    log = FakeProposer()
    async with running_store(log) as store:
        await fill(store)
    return log.log


@pytest.fixture
async def snapshot() -> bytes:
    """A snapshot file of the same state."""
    async with running_store() as store:
        await fill(store)
        return b"".join([piece async for piece in save_snapshot(store, 6, NOW_S)])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "manager"
    path.mkdir()
    return path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def give(directory: Path, order: RecoveryOrder) -> None:
    write_atomic(directory / ORDER_FILE, msgspec.msgpack.encode(order))


def run(directory: Path, disk: Disk | None = None, who: Identity | None = None, level: int = features.LEVEL) -> None:
    recover(
        directory,
        who or identity(),
        ADDR,
        FakeClock(NOW_S),
        counting_bytes,
        feature_level=level,
        disk=disk or CuttingDisk(),
    )


def opened(directory: Path) -> tuple[Source, RecoveryReport, Place]:
    """Return what the manager would start with."""
    report = msgspec.msgpack.decode((directory / "raft" / REPORT_FILE).read_bytes(), type=RecoveryReport)
    place = msgspec.msgpack.decode((directory / "place.msgpack").read_bytes(), type=Place)
    source = read_log(CuttingDisk(), directory / "raft", sealer_of(directory), "cluster1")
    log = replay(CuttingDisk(), directory / "raft" / "wal", sealer_of(directory))
    assert log.metadata == Metadata("cluster1", place.member_id)
    assert log.mark.conf == ConfState(voters=(place.member_id,))
    assert (log.entries, log.torn) == ([], None)
    return source, report, place


def check_rows(source: Source, own: str, others: set[str]) -> None:
    (cluster,) = source.state.rows(CLUSTERS).all()
    assert cluster.next_raft_id == 5
    rows = {row.id: row for row in source.state.rows(NODES).all()}
    for node_id, row in rows.items():
        is_manager = node_id == own
        assert (row.manager is not None, row.spec.role is NodeRole.MANAGER) == (is_manager, is_manager), row
        assert row.state is (NodeState.DOWN if node_id in others or own == "n9" == node_id else NodeState.READY)
    status = rows[own].manager
    assert status is not None
    assert (status.raft_id, status.addr, status.leader) == (4, ADDR, True)
    assert all(rows[i].version == rows[i].spec_revision == source.state.revision for i in {own, *others})


@pytest.mark.parametrize("taken", [0, 2, 4])
def test_the_whole_log_is_kept_also_what_was_not_known_to_be_committed(
    directory: Path, entries: list[bytes], taken: int
) -> None:
    committed = max(taken, 3)
    leave_log(directory, Metadata("cluster1", 1), entries, committed=committed, snapshot=taken)
    give(directory, FORCE)
    run(directory)
    source, report, place = opened(directory)
    before = len(entries)
    assert (source.state.index, source.index, source.term) == (before + 1, before + 1, 2)
    assert {row.spec.name for row in source.state.rows(CONFIGS).all()} == {"first", "second"}
    check_rows(source, "n1", {"n2", "n3"})
    assert (report.order_id, report.member_id, place.member_id) == ("order1", 4, 4)
    old = directory / "raft.old-20231114T221320Z"
    unsure = (
        "kept: the last entry of its log (4 to 4), which it did not know to be committed: whoever wrote them may have "
        "been told that they failed"
    )
    sure = "every entry of its log was known to be committed; what other managers committed later is lost"
    assert report.kept == (
        f"kept: the state of this manager at revision {source.state.revision - 1}: 4 nodes, 0 services, 2 configs, "
        "0 networks, 0 tasks",
        unsure if committed == 3 else sure,
        "given up as managers: m2 (10.0.0.2:2377), m3 (10.0.0.3:2377); they are workers from now on, and down until "
        "they come back",
        "warning: former managers that are started again with what they stored may elect a leader of their own: "
        "remove the `manager` folder of each one's state directory first",
        f"the log before this is in {old}: remove it when all is well",
    )
    assert read_log(CuttingDisk(), old, sealer_of(directory), "cluster1").index == before
    assert names(directory) == ["place.msgpack", "raft", "raft-key", old.name]


def test_nothing_made_for_the_old_group_is_applied_to_the_new_state(directory: Path, entries: list[bytes]) -> None:
    leave_log(directory, Metadata("cluster1", 1), entries[:3], committed=3)
    give(directory, FORCE)
    run(directory)
    source, _, _ = opened(directory)
    assert source.state.apply(source.index + 1, entries[3]) is None, "it was built on another state"


def test_a_snapshot_file_is_restored_for_a_node_that_is_new(directory: Path, snapshot: bytes) -> None:
    (directory / STATE_FILE).write_bytes(snapshot)
    give(directory, RESTORE)
    run(directory, who=identity("n9"))
    source, report, _ = opened(directory)
    check_rows(source, "n9", {"n1", "n2", "n3"})
    own = source.state.rows(NODES).get("n9")
    assert own is not None
    assert (own.name, source.term) == ("m9", 6)
    assert report.kept == (
        f"kept: the state at revision {source.state.revision - 1}: 5 nodes, 0 services, 2 configs, 0 networks, 0 tasks",
        "kept: the swarm's id (cluster1), root certificate and join tokens: certificates stay good",
        "not kept: what was changed after 2023-11-14 22:13:20 UTC, and the identity that this node had before",
        "given up as managers: m1 (10.0.0.1:2377), m2 (10.0.0.2:2377), m3 (10.0.0.3:2377); they are workers from now "
        "on, and down until they come back",
        "warning: former managers that are started again with what they stored may elect a leader of their own: "
        "remove the `manager` folder of each one's state directory first",
    )
    assert names(directory) == ["place.msgpack", "raft", "raft-key"]


def test_the_same_order_is_carried_out_once(directory: Path, entries: list[bytes]) -> None:
    leave_log(directory, Metadata("cluster1", 1), entries, committed=4)
    for _ in range(2):
        give(directory, FORCE)
        run(directory)
    source, report, _ = opened(directory)
    assert (report.member_id, source.state.revision) == (4, len(entries) + 1)
    give(directory, msgspec.structs.replace(FORCE, id="again"))
    run(directory)
    _, report, _ = opened(directory)
    assert (report.order_id, report.member_id) == ("again", 5)
    assert len([name for name in names(directory) if name.startswith("raft.old-")]) == 2


def in_every_cut(tmp_path: Path, begin: Path, order: RecoveryOrder, who: Identity) -> int:
    """Cut the work off at every operation; the next start must end as if nothing had been. Return how often."""
    cut = 0
    while True:
        cut += 1
        directory = tmp_path / f"cut{cut}"
        shutil.copytree(begin, directory)
        give(directory, order)
        disk = CuttingDisk(cut)
        try:
            run(directory, disk, who)
        except CutOff:
            run(directory, CuttingDisk(), who)
        source, report, _ = opened(directory)
        check_rows(source, who.node_id, {"n1", "n2", "n3"} - {who.node_id})
        assert (report.order_id, report.member_id, source.state.revision) == (order.id, 4, source.state.index)
        assert not {"raft.new", ORDER_FILE, STATE_FILE} & set(names(directory)), cut
        shutil.rmtree(directory)
        if disk.operations < cut:
            return cut


@pytest.mark.parametrize("taken", [0, 2])
def test_forcing_can_be_cut_off_anywhere(tmp_path: Path, directory: Path, entries: list[bytes], taken: int) -> None:
    leave_log(directory, Metadata("cluster1", 1), entries, committed=4, snapshot=taken)
    assert in_every_cut(tmp_path, directory, FORCE, identity()) > 20


def test_restoring_can_be_cut_off_anywhere(tmp_path: Path, directory: Path, snapshot: bytes) -> None:
    (directory / STATE_FILE).write_bytes(snapshot)
    assert in_every_cut(tmp_path, directory, RESTORE, identity("n9")) > 20


def test_what_was_cut_off_is_not_carried_out_once_the_order_is_withdrawn(
    tmp_path: Path, directory: Path, entries: list[bytes]
) -> None:
    leave_log(directory, Metadata("cluster1", 1), entries, committed=4)
    for cut in range(1, 20):
        copy = tmp_path / f"cut{cut}"
        shutil.copytree(directory, copy)
        give(copy, FORCE)
        with pytest.raises(CutOff):
            run(copy, CuttingDisk(cut))
        was_swapped = not (copy / "raft").exists()
        (copy / ORDER_FILE).unlink()
        run(copy)
        assert (copy / "raft" / REPORT_FILE).exists() is was_swapped
        assert "raft.new" not in names(copy)


Damage = Callable[[Path], object]


def refused(directory: Path, order: RecoveryOrder, who: Identity, level: int = features.LEVEL) -> str:
    """Return why; all but the order and the key must be as before, and the next start an ordinary one."""
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    give(directory, order)
    with pytest.raises(SwarmError) as caught:
        run(directory, who=who, level=level)
    assert caught.value.code is Code.FAILED_PRECONDITION
    after = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    after.pop(directory / "raft-key", None)
    assert after == {path: data for path, data in before.items() if path.name not in (STATE_FILE, "raft-key")}
    run(directory)
    return caught.value.message


def test_what_cannot_be_forced_leaves_everything_as_it_was(directory: Path, entries: list[bytes]) -> None:
    lead = "the swarm was not begun anew, and nothing was changed: "
    assert refused(directory, FORCE, identity()).startswith(f"{lead}there is no log in {directory}/raft/wal: ")
    leave_log(directory, Metadata("cluster1", 1), entries, committed=4)
    assert refused(directory, FORCE, identity("n8")) == (
        f"{lead}the swarm's state on this node does not hold this node: it was removed from the swarm"
    )
    assert refused(directory, FORCE, identity(cluster_id="other")) == (
        f"{lead}{directory}/raft belongs to cluster cluster1, not to other"
    )
    assert refused(directory, FORCE, identity(), level=1) == (
        f"{lead}the state is of feature level {features.LEVEL}, this release knows 1: "
        "install a newer release of swarmpy on this node"
    )


def test_a_manager_that_never_caught_up_has_nothing_to_go_on_with(directory: Path) -> None:
    leave_log(directory, Metadata("cluster1", 1), [], committed=0)
    assert refused(directory, FORCE, identity()) == (
        "the swarm was not begun anew, and nothing was changed: "
        "this manager has not received the state of the swarm yet: use another manager's"
    )


def test_damage_in_the_log_is_named_and_nothing_is_made_of_it(directory: Path, entries: list[bytes]) -> None:
    leave_log(directory, Metadata("cluster1", 1), entries, committed=4)
    (segment,) = (directory / "raft" / "wal").iterdir()
    data = bytearray(segment.read_bytes())
    data[700] ^= 1
    segment.write_bytes(data)
    assert f"{segment} is damaged at byte " in refused(directory, FORCE, identity())


def test_what_cannot_be_restored_says_why(directory: Path, snapshot: bytes) -> None:
    file = directory / STATE_FILE
    file.write_bytes(snapshot[:-1])
    assert refused(directory, RESTORE, identity("n9")).startswith(
        f"the snapshot was not restored: {file} is cut off after {len(snapshot) - 1} bytes: "
    )
    file.write_bytes(snapshot)
    assert refused(directory, RESTORE, identity("n9", "other")) == (
        f"the snapshot was not restored: {file} is a snapshot of cluster cluster1, not of other"
    )


def test_a_full_disk_is_met_before_anything_is_touched(directory: Path, entries: list[bytes]) -> None:
    class FullDisk(CuttingDisk):
        def step(self) -> None:
            super().step()
            if self.operations > 8:
                raise OSError(28, "No space left on device")

    leave_log(directory, Metadata("cluster1", 1), entries, committed=4)
    give(directory, FORCE)
    with pytest.raises(SwarmError, match="nothing was changed: disk full on ") as caught:
        run(directory, FullDisk())
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert names(directory) == ["raft", "raft-key"]


def test_a_start_without_an_order_changes_nothing(directory: Path) -> None:
    run(directory)
    assert names(directory) == []
