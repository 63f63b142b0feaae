"""Which image of several a machine can run: system, architecture and variant. Pure but for `host_platform`."""

from __future__ import annotations

import platform as machine
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import invalid

_ALIASES: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "mips64el": ("mips64le", ""),
    "powerpc64le": ("ppc64le", ""),
}
_DEFAULT_VARIANT: Final = {"arm64": "v8", "amd64": "v1"}
_ARM: Final = ("v8", "v7", "v6", "v5")
_AMD64: Final = ("v4", "v3", "v2", "v1")


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image is built for, in Go's words: `linux`, `amd64`, and for some architectures a variant."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def normalised(os: str, architecture: str, variant: str = "") -> Platform:
    """Return the platform in the usual words; a variant that every such machine has is left out."""
    arch = architecture.lower()
    arch, implied = _ALIASES.get(arch, (arch, ""))
    found = variant.lower() or implied or ("v7" if arch == "arm" else "")
    if found == _DEFAULT_VARIANT.get(arch):
        found = ""
    return Platform(os.lower(), arch, found)


def parse_platform(text: str) -> Platform:
    """Return the platform of `linux/arm64`, `linux/arm/v7`, `arm64`.

    Raises:
        SwarmError: INVALID_ARGUMENT.
    """
    parts = text.strip().split("/")
    if len(parts) == 1:
        parts = ["linux", *parts]
    if len(parts) > 3 or not all(part and part.replace("-", "").replace("_", "").isalnum() for part in parts):
        raise invalid(
            f"invalid platform {text!r}: write OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64"
        )
    return normalised(*parts)


def host_platform() -> Platform:
    """Return the platform of this machine."""
    return normalised(machine.system(), machine.machine())


def runnable(wanted: Platform) -> tuple[Platform, ...]:
    """Return what a machine of platform `wanted` runs, the best first."""
    os, arch, variant = wanted.os, wanted.architecture, wanted.variant
    if arch == "amd64":
        levels = _AMD64[_AMD64.index(variant) :] if variant in _AMD64 else (variant, *_AMD64[-1:])
        return (*(normalised(os, arch, level) for level in levels), Platform(os, "386"))
    if arch == "arm64" and not variant:
        return (wanted, *(Platform(os, "arm", level) for level in _ARM))
    if arch == "arm":
        levels = _ARM[_ARM.index(variant) :] if variant in _ARM else (variant,)
        return tuple(Platform(os, arch, level) for level in levels)
    return (wanted,)


def rank(wanted: Platform, offered: Platform) -> int | None:
    """Return how well an image for `offered` suits a machine of platform `wanted`: 0 is best, None not at all."""
    order = runnable(wanted)
    found = normalised(offered.os, offered.architecture, offered.variant)
    return order.index(found) if found in order else None


def best(wanted: Platform, offers: Iterable[Platform | None]) -> int | None:
    """Return the place of the offer that suits best, the first of equals; None if none does, as None never does."""
    ranked = [(rank(wanted, offer), place) for place, offer in enumerate(offers) if offer is not None]
    usable = [(score, place) for score, place in ranked if score is not None]
    return min(usable)[1] if usable else None
