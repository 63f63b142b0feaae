"""Bugs that the simulator must find: each replaces a method or two of the product for as long as a run takes.

The product has no switches for them. A bug whose method is gone or renamed fails loudly, so that none goes stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Wrap: TypeAlias = Callable[[Callable[..., Any]], Any]
"""Makes the replacement, given the original."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One attribute of a class or module that is replaced."""

    owner: Any
    name: str
    wrap: Wrap


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake that somebody could make; `sentence` says which."""

    name: str
    sentence: str
    patches: tuple[Patch, ...]


_REGISTER: Final[dict[str, Bug]] = {}
BUGS: Final[Mapping[str, Bug]] = _REGISTER


def plant(name: str, sentence: str, *patches: tuple[Any, str, Wrap]) -> None:
    """Add a bug to the list."""
    assert name not in _REGISTER, f"{name} is planted twice"
    _REGISTER[name] = Bug(name, sentence, tuple(Patch(*patch) for patch in patches))


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Have the bug `name` in the product; none for ""."""
    with ExitStack() as stack:
        for patch in BUGS[name].patches if name else ():
            stack.enter_context(_patched(patch))
        yield


@contextmanager
def _patched(patch: Patch) -> Iterator[None]:
    before = vars(patch.owner)[patch.name]
    original: Callable[..., Any] = before.fget if isinstance(before, property) else before  # type: ignore[assignment]  # a property here has a getter
    replacement = patch.wrap(original)
    setattr(patch.owner, patch.name, property(replacement) if isinstance(before, property) else replacement)
    try:
        yield
    finally:
        setattr(patch.owner, patch.name, before)


def always(value: object) -> Wrap:
    """Return a wrap whose replacement gives `value`, whatever it is asked."""
    return lambda _original: lambda *_args, **_options: value
