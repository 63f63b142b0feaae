"""The architecture as a test: who may import whom, which modules are pure, and how long things may be."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("swarmpy", "manager", "worker")
GENERATED: Final = ("swarmpy/api/v1", "worker/containerd/api")
MAX_FILE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60

# Rooms of the manager that meet only in the store.
STAR: Final = ("api", "orchestrator", "allocator", "scheduler", "dispatcher")

# Modules that decide and must not act: no event loop, clock, chance, files or network.
PURE: Final = (
    "swarmpy/model",
    "swarmpy/wire",
    "swarmpy/ids.py",
    "swarmpy/errors.py",
    "swarmpy/units.py",
    "swarmpy/security/names.py",
    "swarmpy/security/tokens.py",
    "manager/allocator/addresses.py",
    "manager/allocator/networks.py",
    "manager/allocator/plan.py",
    "manager/allocator/pools.py",
    "manager/allocator/subnets.py",
    "manager/allocator/waiting.py",
    "manager/dispatcher/drain.py",
    "manager/dispatcher/endpoints.py",
    "manager/dispatcher/heartbeats.py",
    "manager/dispatcher/told.py",
    "manager/orchestrator/reconcile.py",
    "manager/orchestrator/restart.py",
    "manager/orchestrator/updater.py",
    "manager/orchestrator/apply.py",
    "manager/orchestrator/backlog.py",
    "manager/orchestrator/fitness.py",
    "manager/orchestrator/history.py",
    "manager/orchestrator/phase.py",
    "manager/orchestrator/planner.py",
    "manager/orchestrator/rollout.py",
    "manager/orchestrator/site.py",
    "manager/orchestrator/slot.py",
    "manager/raft/backlog.py",
    "manager/raft/candidate.py",
    "manager/raft/changes.py",
    "manager/raft/confchange.py",
    "manager/raft/config.py",
    "manager/raft/confchange.py",
    "manager/raft/core.py",
    "manager/raft/quorum.py",
    "manager/raft/election.py",
    "manager/raft/entries.py",
    "manager/raft/follower.py",
    "manager/raft/handover.py",
    "manager/raft/leader.py",
    "manager/raft/member.py",
    "manager/raft/outlet.py",
    "manager/raft/output.py",
    "manager/raft/progress.py",
    "manager/raft/proposals.py",
    "manager/raft/quorum.py",
    "manager/raft/read_rounds.py",
    "manager/raft/reads.py",
    "manager/raft/replication.py",
    "manager/raft/types.py",
    "manager/raft/waiting.py",
    "manager/scheduler/fleet.py",
    "manager/scheduler/filters.py",
    "manager/scheduler/place.py",
    "manager/store/codec.py",
    "manager/store/commit.py",
    "manager/store/indexes.py",
    "manager/store/overlay.py",
    "manager/store/snapshot.py",
    "manager/store/state.py",
    "manager/store/tables.py",
    "manager/store/transaction.py",
    "manager/store/view.py",
    "manager/membership/group.py",
    "manager/membership/plan.py",
    "worker/assignments.py",
    "worker/dataplane/endpoints.py",
    "worker/dataplane/proxy/deadlines.py",
    "worker/dataplane/proxy/http_tracker.py",
    "worker/dataplane/proxy/rotation.py",
    "worker/dataplane/dns/zone.py",
    "worker/health/monitor.py",
    "worker/task/state.py",
)
IMPURE: Final = frozenset({"asyncio", "time", "random", "os", "socket", "grpc", "threading", "subprocess"})

# What a process that must stay small and safe to fork from may not load.
STANDARD_LIBRARY_ONLY: Final = ("swarmpy/daemon", "worker/taskhost")
CLIENTS: Final = frozenset({"swarmpy/daemon/client.py", "worker/taskhost/client.py"})
THIRD_PARTY: Final = frozenset({"grpc", "google", "msgspec", "structlog", "asyncio", "uvloop", "click", "rich"})


def sources() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split():
        path = ROOT / name
        if not any(folder in name for folder in GENERATED) and path.exists():
            yield path


SOURCES: Final = sorted(sources())
LIBRARY: Final = [p for p in SOURCES if p.relative_to(ROOT).parts[0] in PACKAGES]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, *, only_at_load: bool = False) -> set[str]:
    """Return the dotted names that a module imports; with `only_at_load`, not those inside functions."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if only_at_load else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_layers(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    forbidden = {"swarmpy": {"manager", "worker"}, "manager": {"worker"}, "worker": {"manager"}}[package]
    assert not roots(imports(path)) & forbidden, f"{relative(path)} reaches into another package"


@pytest.mark.parametrize("room", STAR)
def test_the_rooms_of_the_manager_meet_only_in_the_store(room: str) -> None:
    others = tuple(f"manager.{other}" for other in STAR if other != room)
    for path in (ROOT / "manager" / room).rglob("*.py"):
        assert not [name for name in imports(path) if name.startswith(others)], relative(path)


def test_raft_and_store_know_each_other_as_protocols_only() -> None:
    for room, other in (("raft", "manager.store"), ("store", "manager.raft")):
        for path in (ROOT / "manager" / room).rglob("*.py"):
            assert not [name for name in imports(path) if name.startswith(other)], relative(path)


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_do_nothing(name: str) -> None:
    path = ROOT / name
    assert path.exists(), f"{name} is listed as pure and is not there"
    for module in path.rglob("*.py") if path.is_dir() else [path]:
        assert not roots(imports(module)) & IMPURE, relative(module)


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_the_parents_of_processes_use_the_standard_library_only(name: str) -> None:
    for path in (ROOT / name).rglob("*.py"):
        if relative(path) not in CLIENTS:
            assert not roots(imports(path)) & THIRD_PARTY, relative(path)


def test_the_command_line_loads_neither_structlog_nor_rich_before_it_draws() -> None:
    for path in (ROOT / "swarmpy" / "cli").rglob("*.py"):
        assert not roots(imports(path, only_at_load=True)) & {"structlog", "rich"}, relative(path)


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_lengths(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES, f"{relative(path)} is longer than {MAX_FILE_LINES} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{relative(path)}: {node.name} has {length} lines"


@pytest.mark.parametrize("package", sorted({p.parent for p in LIBRARY}), ids=relative)
def test_every_room_says_what_it_is(package: Path) -> None:
    init = package / "__init__.py"
    assert init.exists(), f"{relative(package)} is no package"
    assert ast.get_docstring(ast.parse(init.read_text())), f"{relative(init)} does not say what the room owns"


@pytest.mark.parametrize("path", [p for p in SOURCES if "unit" in p.parts], ids=relative)
def test_unit_tests_never_sleep(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("asyncio.sleep", "time.sleep"):
            waits = not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
            assert not waits, f"{relative(path)}:{node.lineno} sleeps"


IGNORE: Final = re.compile(r"#\s*(?:type: ignore|noqa)(?:\[[\w, -]+\]|: ?[A-Z]+\d+(?:, ?[A-Z]+\d+)*)?")


def test_an_ignore_has_a_reason_beside_it() -> None:
    for path in SOURCES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = IGNORE.search(line)
            if found is not None and path.name != "test_tidy.py":
                behind = IGNORE.sub("", line[found.start() :])
                assert re.search(r"\w{2,}", behind), f"{relative(path)}:{number}: an ignore without a reason"
