"""Whether the sockets of a node can be reached, and the sentence for a person when they cannot."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from swarmpy.client.paths import Sockets
from swarmpy.client.results import NodeInfo
from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import NodeRole


def knock(path: Path) -> int:
    """Return 0 if somebody listens on the UNIX socket `path`, else the error number of connecting to it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            return error.errno or errno.ENAMETOOLONG
    return 0


async def check_node(sockets: Sockets) -> None:
    """Raise unless the node's own socket can be reached."""
    if (failure := knock(sockets.node)) != 0:
        raise unreachable(sockets.node, failure)


async def check_control(sockets: Sockets, info: Callable[[], Awaitable[NodeInfo]]) -> None:
    """Raise unless a manager listens on the control socket; what the node says of itself tells why not."""
    failure = knock(sockets.control)
    if failure == 0:
        return
    if failure == errno.EACCES:
        raise unreachable(sockets.control, failure)
    node = await info()
    if not node.cluster_id:
        raise SwarmError(
            Code.FAILED_PRECONDITION,
            "this node is not part of a swarm: use `swarmpy swarm init` or `swarmpy swarm join`",
        )
    if node.role is NodeRole.WORKER:
        managers = f" ({', '.join(node.managers)})" if node.managers else ""
        raise SwarmError(
            Code.FAILED_PRECONDITION,
            f"this node is not a swarm manager: run this on a manager{managers}",
        )
    raise SwarmError(
        Code.UNAVAILABLE,
        f"this node's manager does not listen on {sockets.control}: it is starting or restarting; try again",
    )


def unreachable(path: Path, failure: int) -> SwarmError:
    """Return the error for a socket that answered `failure` (an errno) to a connection."""
    if failure == errno.EACCES:
        return SwarmError(
            Code.PERMISSION_DENIED,
            f"permission denied on {path}: run this as the user of swarmpyd, or join the group of that socket",
        )
    if failure == errno.ENAMETOOLONG:
        return SwarmError(
            Code.INVALID_ARGUMENT,
            f"the path {path} is too long for a UNIX socket (107 bytes at most): use a shorter --state-dir",
        )
    return SwarmError(
        Code.UNAVAILABLE,
        f"cannot reach swarmpyd at {path}: is it running? start it with `swarmpyd`",
        retryable=False,
    )
