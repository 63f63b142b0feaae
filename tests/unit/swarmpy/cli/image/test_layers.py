"""How a pull is shown."""

from __future__ import annotations

import io

from swarmpy.cli.image.layers import PULL, PUSH, Layers, bar
from swarmpy.client.containers import PullStep

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def said(*steps: tuple[str, str], words: object = PULL, live: bool = False) -> str:
    out = io.StringIO()
    layers = Layers(out, PULL if words is PULL else PUSH, live=live)
    for digest, stage in steps:
        layers(PullStep("x", digest, stage, 5, 10))
    return out.getvalue()


def test_without_a_terminal_each_layer_is_said_once() -> None:
    text = said(
        (A, "waiting"), (A, "fetching"), (B, "exists"), (A, "fetched"), (A, "unpacking"), (A, "done"), ("", "done")
    )
    assert text == f"{'b' * 12}: Already exists\n{'a' * 12}: Pull complete\n"


def test_a_layer_that_was_unpacked_already_was_here() -> None:
    assert said((A, "fetching"), (A, "done"), (A, "exists")) == f"{'a' * 12}: Already exists\n"
    assert said((A, "fetching"), (A, "done"), words=PUSH) == f"{'a' * 12}: Pushed\n"


def test_a_terminal_is_redrawn() -> None:
    text = said((A, "fetching"), (B, "waiting"), (A, "fetched"), live=True)
    assert text.endswith(f"\x1b[2A\r\x1b[2K{'a' * 12}: Download complete\n\r\x1b[2K{'b' * 12}: Waiting\n")


def test_bars() -> None:
    assert bar(0, 10) == f"[{' ' * 50}]  0B/10B"
    assert bar(5, 10).startswith("[" + "=" * 24 + ">" + " " * 25)
    assert bar(20, 10).startswith("[" + "=" * 49 + ">]")
