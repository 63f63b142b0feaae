"""Which containerd this node uses, and the configuration of one of its own.

A containerd of the node's own is preferred to the machine's: its version, plugins and restarts are ours, Docker or
Kubernetes cannot change or stop it under our tasks, and several nodes can share a machine. The machine's is used where
it was named, or where no containerd can be started from here.
"""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import binascii
import contextlib
import json
import os
import stat

from swarmpy.daemon.state import Unusable, write_atomically

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from swarmpy.daemon.settings import Settings

RECORD = "containerd.json"
"""Name of the file in `run/` that tells the worker what was found."""
OFF = "off"
DRIVERS = ("overlayfs", "btrfs", "zfs", "native", "devmapper")
SOCKET = "containerd.sock"
TASKS = "containerd/io.containerd.runtime.v2.task"
"""Name of the directory in `run/` with a directory for each namespace, and in that for each running container."""

_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "runc")
_MACHINES_SOCKET = "/run/containerd/containerd.sock"
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not in the PATH of everybody who becomes root
# What nobody here asks for. Without it containerd starts faster and stays smaller, and Kubernetes' part of it, which
# would listen on a TCP port, above all.
_NEEDLESS = (
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.monitor.v1.cgroups",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.nri.v1.nri",
)


class Runtime:
    """What was found. `argv` is empty unless a containerd of the node's own is to run; `path` is its PATH.

    `missing` says why there is none, and is empty if there is.
    """

    __slots__ = ("argv", "missing", "path", "socket")

    def __init__(self, *, socket: str = "", argv: list[str] | None = None, path: str = "", missing: str = "") -> None:
        self.socket = socket
        self.argv = argv or []
        self.path = path
        self.missing = missing


def prepare(settings: Settings, directory: str, run_path: Callable[[str], str], environ: Mapping[str, str]) -> Runtime:
    """Find a containerd, write the configuration of one of our own, and the record for the worker.

    Raises:
        Unusable: the data directory was made by another storage driver than the one that is asked for.
    """
    runtime = find(settings.containerd, run_path(SOCKET), environ, root=os.geteuid() == 0)
    if not runtime.missing:
        check_driver(directory, settings.storage_driver)
    if runtime.argv:
        content = configuration(directory, run_path, settings.storage_driver, settings.storage_options)
        # Another content is another command line, so one that was adopted is restarted with it.
        path = run_path(f"containerd-{binascii.crc32(content.encode()):08x}.toml")  # hashlib costs 4 MB
        try:
            os.makedirs(os.path.join(directory, "containerd"), mode=0o711, exist_ok=True)
            write_atomically(path, content.encode(), sync=False)
        except OSError as error:
            raise Unusable(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
        runtime.argv += ["--config", path]
    record = {
        "socket": runtime.socket,
        "private": bool(runtime.argv),
        "missing": runtime.missing,
        "driver": settings.storage_driver,
    }
    with contextlib.suppress(OSError):  # on a full disk the one before stays, which most likely says the same
        write_atomically(run_path(RECORD), json.dumps(record).encode() + b"\n", sync=False)
    return runtime


def find(asked: str, own_socket: str, environ: Mapping[str, str], *, root: bool) -> Runtime:
    """Return which containerd to use.

    Args:
        asked: the path of a socket, "off", or empty for what is best.
        own_socket: where one of our own listens.
    """
    if asked == OFF:
        return Runtime(missing="containers are switched off on this node (--containerd off)")
    if not root:
        return Runtime(missing="swarmpyd does not run as root, so it runs no containers")
    if asked:
        return Runtime(socket=asked)
    path = os.pathsep.join(dict.fromkeys([*environ.get("PATH", os.defpath).split(os.pathsep), *_SBIN]))
    programs = {name: which(name, path) for name in _PROGRAMS}
    absent = [name for name, place in programs.items() if not place]
    if not absent:
        return Runtime(socket=own_socket, argv=[programs["containerd"]], path=path)
    if is_socket(_MACHINES_SOCKET):
        return Runtime(socket=_MACHINES_SOCKET)
    return Runtime(
        missing=f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed on this node "
        "(Debian packages: containerd, runc)"
    )


def which(name: str, path: str) -> str:
    """Return where a program lies, empty if it is not in `path`."""
    places = (os.path.join(directory or ".", name) for directory in path.split(os.pathsep))
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), "")


def is_socket(path: str) -> bool:
    """Return whether there is a socket at `path`."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def driver_record(directory: str) -> str:
    """Return the path of the file that says by which storage driver this node's images and containers are kept."""
    return os.path.join(directory, "containerd", "driver")


def check_driver(directory: str, asked: str) -> None:
    """See that `asked`, which may be empty, is the driver that this state directory was begun with.

    Raises:
        Unusable: it is another.
    """
    try:
        with open(driver_record(directory), encoding="utf-8") as file:
            begun = file.read().strip()
    except OSError:
        return
    if asked and begun and asked != begun:
        raise Unusable(
            f"the images and containers in {directory} are kept by the storage driver {begun}, and {asked} would not "
            f"see them: give --storage-driver {begun}, or begin with another state directory"
        )


def configuration(directory: str, run_path: Callable[[str], str], driver: str, options: str) -> str:
    """Return the configuration file (TOML) of a containerd of our own.

    Args:
        driver: the storage driver that was asked for, empty for what works.
        options: JSON object, the driver's own options.
    """
    # Without a pool devmapper does nothing but complain.
    needless = [*_NEEDLESS, *(() if driver == "devmapper" else ("io.containerd.snapshotter.v1.devmapper",))]
    lines = [
        "version = 2",
        f"root = {_text(os.path.join(directory, 'containerd', 'root'))}",
        f"state = {_text(run_path('containerd'))}",
        f"disabled_plugins = {json.dumps(needless)}",
        "[grpc]",
        f"address = {_text(run_path(SOCKET))}",
        "[ttrpc]",
        f"address = {_text(run_path('ttrpc.sock'))}",  # its default name is too long for the longest directories
        "[debug]",
        'level = "warn"',
    ]
    chosen = json.loads(options or "{}")
    if driver and chosen:
        lines.append(f'[plugins."io.containerd.snapshotter.v1.{driver}"]')
        lines += [f"{_text(name)} = {json.dumps(value)}" for name, value in chosen.items()]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Return a TOML string: JSON's has the same form for all that can be in a path."""
    return json.dumps(value, ensure_ascii=False)
