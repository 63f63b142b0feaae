"""What users get wrong, and what machines do to them, is answered at once, in a sentence that says what to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from scripts.cluster import Node, until
from swarmpy.client import Client
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.endpoints import AppProtocol
from swarmpy.model.spec import PortSpec, Resources, ServiceSpec
from swarmpy.model.states import NodeState, TaskState
from swarmpy.model.task import Task
from tests.support.swarm import TARGET, Swarm, process, who_answers, whoami

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("bad_input"),
]

AT_ONCE_S = 5.0
SLEEP = ("sleep", "1000")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def swarm() -> AsyncIterator[Swarm]:
    async with Swarm(2) as swarm:
        yield swarm


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(swarm: Swarm) -> Node:
    """A node that is in no cluster."""
    return await swarm.add("stranger")


async def refusal(call: object, *, within_s: float = AT_ONCE_S) -> SwarmError:
    """Return the error that a call is answered with."""
    assert asyncio.iscoroutine(call)
    with pytest.raises(SwarmError) as refused:
        async with asyncio.timeout(within_s):
            await call
    return refused.value


async def test_two_services_cannot_have_one_name(swarm: Swarm) -> None:
    await swarm.create(process("twin", *SLEEP))
    error = await refusal(swarm.client.services.create(process("twin", *SLEEP)))
    assert error.code is Code.ALREADY_EXISTS
    assert error.message == "service twin exists already: choose another name, or update that service"
    await swarm.remove("twin")


async def test_two_services_cannot_publish_one_port(swarm: Swarm) -> None:
    await swarm.create(whoami("first", 8080, replicas=1))
    error = await refusal(swarm.client.services.create(whoami("second", 8080, replicas=1)))
    assert error.code is Code.ALREADY_EXISTS
    assert error.message == (
        "port 8080/tcp is already published by service first: choose another port, or remove that service"
    )
    assert [listed.service.name for listed in await swarm.client.services.list()] == ["first"]
    await swarm.remove("first")


async def test_a_port_that_another_program_holds_is_said_and_tried_again(swarm: Swarm) -> None:
    one, two = swarm.nodes[:2]
    with socket.create_server((two.address, 8080)):
        await swarm.create(whoami("web", 8080, replicas=2))
        await swarm.running("web", 2)

        async def said() -> tuple[str, ...]:
            return (await two.client.node.info()).problems

        problems = await until(said, what="the node says that it cannot listen")
        assert problems == (f"port 8080 on {two.address} is used by another program (tcp)",)
        assert (await one.client.node.info()).problems == ()
        assert {(await who_answers(one.address, 8080))["slot"] for _ in range(4)} == {"1", "2"}

    async def cleared() -> bool:
        return not (await two.client.node.info()).problems

    await until(cleared, what="the port is had once it is free")
    assert (await who_answers(two.address, 8080))["service"] == "web"
    await swarm.remove("web")


async def test_a_command_that_is_not_there_is_rejected_and_tried_ever_less(swarm: Swarm) -> None:
    await swarm.create(process("typo", "slepe", "1000"))

    async def rejected() -> list[Task] | None:
        found = [task for task in await swarm.tasks("typo") if task.state is TaskState.REJECTED]
        return found if len(found) >= 3 else None

    for task in await swarm.until(rejected, what="the task is rejected three times"):
        assert task.error.startswith("command not found: 'slepe' (looked in PATH=")
        assert task.exit_code is None

    async def waiting() -> Task | None:
        tasks = await swarm.tasks("typo")
        # Rejected while it is prepared, mostly; its successor then sits out the delay for it.
        return next((t for t in tasks if t.desired_state is TaskState.READY and t.restarts >= 3), None)

    held = await swarm.until(waiting, what="the next try waits")
    assert held.hold_until - held.created_at >= 0.5
    await swarm.remove("typo")


async def test_tokens_that_admit_nobody(swarm: Swarm, stranger: Node) -> None:
    at = f"{swarm.manager.address}:2377"
    error = await refusal(stranger.client.node.join(at, "SWMTKN-1-oops"))
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message == (
        "the join token is malformed: it looks like SWMTKN-1-<50 characters>-<25 characters>; "
        "print it on a manager with `swarmpy swarm join-token worker`"
    )
    right = (await swarm.join_tokens()).worker
    error = await refusal(stranger.client.node.join(at, right[:-25] + "0" * 25))
    assert error.code is Code.PERMISSION_DENIED
    assert "join-token" in error.message
    error = await refusal(stranger.client.node.join(at, f"SWMTKN-1-{'0' * 50}-{right[-25:]}"))
    assert error.code is Code.PERMISSION_DENIED
    assert error.message == (
        f"the token is not for the cluster at {swarm.manager.address}:2378: "
        "print that one's with `swarmpy swarm join-token worker`"
    )
    assert (await stranger.client.node.info()).state == "inactive"
    assert len(await swarm.client.nodes.list()) == 2


async def test_joining_what_is_no_manager(swarm: Swarm, stranger: Node) -> None:
    token = (await swarm.join_tokens()).worker
    error = await refusal(stranger.client.node.join("127.0.0.1:1", token))
    assert error.code is Code.UNAVAILABLE
    assert error.message == (
        "cannot reach a swarm manager at 127.0.0.1:2: connection refused; check the address, and that the node "
        "there ran `swarmpy swarm init`"
    )
    error = await refusal(stranger.client.node.join("not an address:x", token))
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith(
        "the manager's address 'not an address:x' is not an address: write HOST or HOST:PORT"
    )

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, stranger.address, 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await refusal(stranger.client.node.join(f"{stranger.address}:{port - 1}", token))
    assert error.code is Code.FAILED_PRECONDITION
    assert f"{stranger.address}:{port} is not a swarm manager" in error.message


async def test_control_calls_on_a_node_that_is_no_manager(swarm: Swarm, stranger: Node) -> None:
    error = await refusal(stranger.client.services.list())
    assert error.code is Code.FAILED_PRECONDITION
    assert error.message == "this node is not part of a swarm: use `swarmpy swarm init` or `swarmpy swarm join`"
    error = await refusal(swarm.nodes[1].client.services.list())
    assert error.code is Code.FAILED_PRECONDITION
    assert error.message == (f"this node is not a swarm manager: run this on a manager ({swarm.manager.address}:2377)")
    error = await refusal(swarm.nodes[1].client.node.init(ClusterSpec()))
    assert error.code is Code.FAILED_PRECONDITION
    assert error.message == (
        "this node is already part of a swarm: use `swarmpy swarm leave` to leave it before joining another"
    )
    error = await refusal(stranger.client.node.leave())
    assert error.message == "this node is not part of a swarm"
    async with Client.connect(state_dir=stranger.state_dir / "nothing") as nobody:
        error = await refusal(nobody.node.info())
    assert error.code is Code.UNAVAILABLE
    assert error.message == (
        f"cannot reach swarmpyd at {stranger.state_dir}/nothing/run/node.sock: is it running? start it with `swarmpyd`"
    )


async def test_an_update_of_what_has_changed_meanwhile(swarm: Swarm) -> None:
    await swarm.create(process("busy", *SLEEP))
    old = (await swarm.client.services.get("busy")).service
    await swarm.client.services.scale("busy", 2)
    error = await refusal(swarm.client.services.update(old, labelled(old.spec, "a")))
    now = (await swarm.client.services.get("busy")).service
    assert error.code is Code.OUT_OF_SEQUENCE
    assert error.message == (
        f"update out of sequence: service busy was changed meanwhile (version {old.version} is older than "
        f"{now.spec_revision}): read it again and repeat the change"
    )
    assert now.spec.mode.replicas == 2
    assert now.spec.labels == {}
    await swarm.remove("busy")


def labelled(spec: ServiceSpec, value: str) -> ServiceSpec:
    return msgspec.structs.replace(spec, labels={"label": value})


async def test_references_that_name_nothing(swarm: Swarm) -> None:
    for call, message in (
        (swarm.client.services.get("nothing"), "no such service: nothing"),
        (swarm.client.services.remove("nothing"), "no such service: nothing"),
        (swarm.client.nodes.remove("nothing"), "no such node: nothing"),
        (swarm.client.tasks.get("nothing"), "no such task: nothing"),
    ):
        error = await refusal(call)
        assert (error.code, error.message) == (Code.NOT_FOUND, message)


async def test_what_no_node_can_run_waits_and_says_why(swarm: Swarm) -> None:
    huge = Resources(memory_bytes=1 << 60)
    spec = process("huge", *SLEEP)
    spec = msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, reservations=huge))
    await swarm.create(spec)

    async def reason() -> str:
        return "; ".join(task.pending_reason for task in await swarm.tasks("huge"))

    said = await swarm.until(reason, what="the service says why it waits")
    assert said == "no suitable node (insufficient resources on 2 nodes)"
    assert {task.state for task in await swarm.tasks("huge")} == {TaskState.PENDING}
    await swarm.remove("huge")


async def test_a_state_directory_in_use(swarm: Swarm, tmp_path: Path) -> None:
    second = Node("second", swarm.network.place(9), swarm.manager.state_dir, log_path=tmp_path / "log")
    second.start()
    assert second.daemon is not None
    assert second.daemon.wait(20) == 1
    assert second.log() == (
        f"swarmpyd: the state directory {second.state_dir} is in use by another swarmpyd, "
        f"pid {swarm.manager.pid('swarmpyd')}\n"
    )
    await swarm.node_is("node1", NodeState.READY)


async def test_a_published_port_is_not_the_nodes_own(swarm: Swarm) -> None:
    """A port that this cluster itself listens on cannot be had, and that is said."""
    port = PortSpec(target=TARGET, published=2377, app_protocol=AppProtocol.TCP)
    await swarm.create(process("greedy", *SLEEP, ports=(port,)))

    async def said() -> tuple[str, ...]:
        return (await swarm.client.node.info()).problems

    problems = await until(said, what="the manager's node says that it cannot listen")
    assert problems == (f"port 2377 on {swarm.manager.address} is used by another program (tcp)",)
    await swarm.remove("greedy")
