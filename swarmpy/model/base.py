"""What every struct of the model is: frozen, keyword-only, untracked by the garbage collector."""

from __future__ import annotations

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A frozen value. `gc=False` is right because immutable values cannot form a cycle.

    On disk and on the wire a struct is a MessagePack map with its defaults left out, so fields may be
    added (with a default) but never renamed, retyped or given another default.
    """
