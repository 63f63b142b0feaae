"""Mounts as people write them: `-v SOURCE:TARGET[:ro]`, `--mount type=...,source=...,target=...`, `--tmpfs TARGET`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from swarmpy.errors import invalid
from swarmpy.model.spec import Mount
from swarmpy.model.states import MountType

_TYPES: Final = {"bind": MountType.BIND, "volume": MountType.VOLUME, "tmpfs": MountType.TMPFS}
_SOURCE: Final = ("source", "src")
_TARGET: Final = ("target", "destination", "dst")
_READ_ONLY: Final = ("readonly", "ro")
_OPTIONS: Final = {
    "bind-propagation": (MountType.BIND, "propagation"),
    "volume-nocopy": (MountType.VOLUME, "nocopy"),
    "tmpfs-size": (MountType.TMPFS, "size"),
    "tmpfs-mode": (MountType.TMPFS, "mode"),
}
_PROPAGATIONS: Final = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_TRUE: Final = ("", "true", "1")


def parse_volume(text: str, here: Path) -> Mount:
    """Return the mount of `[SOURCE:]TARGET[:OPTION,...]`; a source with a slash is a path, another a volume's name.

    Args:
        here: the directory that `./` and `../` begin at.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise invalid(f'invalid volume "{text}": use [SOURCE:]TARGET[:ro]')
    source, target = ("", parts[0]) if len(parts) == 1 else parts[:2]
    _absolute(target, text)
    options: dict[str, str] = {}
    read_only = False
    for word in parts[2].split(",") if len(parts) == 3 else ():
        if word == "ro":
            read_only = True
        elif word in _PROPAGATIONS:
            options["propagation"] = word
        elif word == "nocopy":
            options["nocopy"] = "true"
        elif word not in ("rw", "z", "Z", "cached", "consistent", "delegated"):
            raise invalid(f'invalid volume "{text}": unknown option "{word}"')
    if source.startswith(("./", "../")) or source in (".", ".."):
        source = str((here / source).resolve())
    kind = MountType.BIND if "/" in source else MountType.VOLUME
    if kind is MountType.BIND and not source.startswith("/"):
        raise invalid(f'invalid volume "{text}": {source} is neither an absolute path nor a name; write ./{source}')
    return Mount(type=kind, source=source, target=target, read_only=read_only, options=options)


def parse_mount(text: str) -> Mount:
    """Return the mount of `type=bind|volume|tmpfs,source=...,target=...[,readonly]`; a volume by default."""
    kind, source, target, read_only = MountType.VOLUME, "", "", False
    options: dict[str, str] = {}
    needs: list[tuple[str, MountType]] = []
    for item in text.split(","):
        key, _, value = item.partition("=")
        if key == "type":
            if value not in _TYPES:
                raise invalid(f'invalid mount type "{value}": use one of {", ".join(_TYPES)}')
            kind = _TYPES[value]
        elif key in _SOURCE:
            source = value
        elif key in _TARGET:
            target = value
        elif key in _READ_ONLY:
            read_only = value in _TRUE
        elif key in _OPTIONS:
            needed, name = _OPTIONS[key]
            needs.append((key, needed))
            options[name] = "true" if name == "nocopy" and value in _TRUE else value
        else:
            raise invalid(f'invalid mount "{text}": unknown option "{key}"')
    for key, needed in needs:
        if needed is not kind:
            raise invalid(f'invalid mount "{text}": {key} is for another type')
    if not target:
        raise invalid(f'invalid mount "{text}": it has no target')
    _absolute(target, text)
    if kind is MountType.BIND and not source.startswith("/"):
        raise invalid(f'invalid mount "{text}": the source of a bind mount is an absolute path')
    return Mount(type=kind, source=source, target=target, read_only=read_only, options=options)


def parse_tmpfs(text: str) -> Mount:
    """Return the mount of `TARGET[:size=64m,mode=1777,ro]`."""
    target, _, words = text.partition(":")
    _absolute(target, text)
    options: dict[str, str] = {}
    read_only = False
    for word in words.split(",") if words else ():
        key, equals, value = word.partition("=")
        if equals and key in ("size", "mode"):
            options[key] = value
        elif word == "ro":
            read_only = True
        elif word not in ("rw", "noexec", "nosuid", "nodev"):
            raise invalid(f'invalid tmpfs "{text}": unknown option "{word}"; there are size, mode and ro')
    return Mount(type=MountType.TMPFS, target=target, read_only=read_only, options=options)


def _absolute(target: str, text: str) -> None:
    if not target.startswith("/"):
        raise invalid(f'invalid mount "{text}": the path in the container, {target}, is not absolute')
