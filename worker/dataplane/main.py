"""The data plane process: its arguments, its parts put together, and its end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import gc
import ipaddress
import os
import random
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvloop

from swarmpy import log as logs
from swarmpy.clock import Clock, SystemClock
from swarmpy.daemon.client import AsyncSupervisorClient, socket_path
from swarmpy.errors import Code, SwarmError
from worker.dataplane.control import ControlServer
from worker.dataplane.namespaces import PinnedNamespaces
from worker.dataplane.plane import Balancing, DataPlane
from worker.dataplane.proxy.api import Limits
from worker.dataplane.proxy.balancer import Balancer
from worker.dataplane.sockets import DirectSockets, SocketProvider, SupervisorSockets

DNS_PORTS: Final = (53, 5354)
RESOLV_CONF: Final = Path("/etc/resolv.conf")
FAREWELL_S: Final = 2.0
DRAIN_S: Final = 6.0  # with the farewell 8: the supervisor kills after 10
EX_CONFIG: Final = 78
EX_TEMPFAIL: Final = 75
UNIX_PATH_BYTES: Final = 107
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process is told."""

    state_dir: Path
    data_address: str
    dns_ports: tuple[int, ...]
    log_level: str
    resolv_conf: Path = RESOLV_CONF

    @property
    def folder(self) -> Path:
        return self.state_dir / "dataplane"

    @property
    def control_path(self) -> Path:
        return self.state_dir / "run" / "dataplane.sock"

    @property
    def supervisor_path(self) -> Path:
        return socket_path(self.state_dir)

    @property
    def error_path(self) -> Path:
        return self.state_dir / "run" / "dataplane.error"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the data plane until SIGTERM; return the exit code (78: fix the configuration first)."""
    settings = parse(argv)
    logs.configure("dataplane", level=settings.log_level)
    try:
        with prepared(settings):
            raise_descriptor_limit()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(settings, clock=SystemClock()))
    except SwarmError as error:
        log.error("the data plane cannot start", error=error.message)
        with contextlib.suppress(OSError):  # the log line above says it, too
            settings.error_path.write_text(error.message + "\n")
        return EX_TEMPFAIL if error.retryable else EX_CONFIG
    return 0


def parse(argv: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(prog="python -m worker.dataplane", description="DNS and load balancer of a node.")
    parser.add_argument("--state-dir", type=Path, required=True, help="the node's state directory")
    parser.add_argument("--addr", type=_address, required=True, help="the node's address")
    parser.add_argument("--data-addr", type=_address, help="where ports and DNS are served (default: --addr)")
    parser.add_argument(
        "--dns-port",
        type=_port,
        help=f"the port of DNS, 0 for any free one (default: {DNS_PORTS[0]}, else {DNS_PORTS[1]})",
    )
    parser.add_argument(
        "--resolv-conf",
        type=Path,
        default=RESOLV_CONF,
        help=f"names the servers that tasks' questions about the outside go to (default: {RESOLV_CONF})",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    given = parser.parse_args(argv)
    return Settings(
        state_dir=given.state_dir,
        data_address=given.data_addr or given.addr,
        dns_ports=DNS_PORTS if given.dns_port is None else (given.dns_port,),
        log_level=given.log_level,
        resolv_conf=given.resolv_conf,
    )


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from error


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


@contextlib.contextmanager
def prepared(settings: Settings) -> Iterator[None]:
    """Make and lock this process's folder, for as long as the context lasts.

    Raises:
        SwarmError: the folder cannot be used, or another data plane uses it.
    """
    length = len(os.fsencode(settings.control_path))
    if length > UNIX_PATH_BYTES:
        raise SwarmError(
            Code.INVALID_ARGUMENT,
            f"the path {settings.control_path} has {length} bytes, and a UNIX socket's at most {UNIX_PATH_BYTES};"
            " choose a shorter --state-dir",
        )
    try:
        settings.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        settings.control_path.parent.mkdir(exist_ok=True, mode=0o750)
        settings.error_path.unlink(missing_ok=True)
        lock = (settings.folder / "lock").open("w")
    except OSError as error:
        raise SwarmError(
            Code.PERMISSION_DENIED,
            f"cannot use the state directory {settings.state_dir}: {error}; check its owner",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SwarmError(
                Code.UNAVAILABLE, f"another data plane runs in {settings.folder}; stop that one first"
            ) from error
        yield


def raise_descriptor_limit() -> None:
    """Take all descriptors that may be had: each connection needs two, each listener one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(settings: Settings, *, clock: Clock) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_loop_error)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    control = ControlServer()
    balancer: Balancing = Balancer(
        loop=loop,
        clock=clock,
        limits=Limits(farewell_s=FAREWELL_S, drain_s=DRAIN_S),
        on_busy_changed=control.busy_changed,
    )
    async with contextlib.AsyncExitStack() as stack:
        plane = DataPlane(
            folder=settings.folder,
            data_address=settings.data_address,
            dns_ports=settings.dns_ports,
            clock=clock,
            sockets=stack.enter_context(sockets_of(settings, clock)),
            balancer=balancer,
            namespaces=PinnedNamespaces(),
            rng=random.SystemRandom(),
            resolv_conf=settings.resolv_conf,
            on_message=control.tell,
        )
        plane.restore()
        gc.collect()
        gc.freeze()  # what was loaded at start stays: later collections need not look at it
        await control.start(settings.control_path, plane)
        stack.push_async_callback(control.close)
        await run_until(stop, plane)
        log.info("stopping: connections may end")
        await plane.close()
    log.info("stopped")


async def run_until(stop: asyncio.Event, plane: DataPlane) -> None:
    """Run the data plane until `stop` is set; its failure is this one's."""
    async with asyncio.TaskGroup() as tasks:
        life = tasks.create_task(plane.run())
        await stop.wait()
        life.cancel()


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    log.error(
        "an error reached the event loop; the connection it belongs to may be lost",
        what=context.get("message"),
        exc_info=error if isinstance(error, BaseException) else None,
    )


@contextlib.contextmanager
def sockets_of(settings: Settings, clock: Clock) -> Iterator[SocketProvider]:
    """Give the sockets' provider: the supervisor where one listens, else this process itself."""
    provider: SocketProvider
    if is_listening(settings.supervisor_path):
        provider = SupervisorSockets(AsyncSupervisorClient(settings.supervisor_path, timeout_s=2.0), clock=clock)
    else:
        log.info("no supervisor: ports are bound here, and are closed while this process restarts")
        provider = DirectSockets()
    try:
        yield provider
    finally:
        provider.close()


def is_listening(path: Path) -> bool:
    """Tell whether a process accepts connections at a UNIX socket's path."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
        return True
