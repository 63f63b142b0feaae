"""Placement constraints: `key == value` or `key != value`, over what is known of a node. Pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import invalid
from swarmpy.model.node import Node
from swarmpy.model.states import word

KEYS: Final = ("node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch")
LABEL_PREFIXES: Final = ("node.labels.", "engine.labels.")
_FORM: Final = re.compile(r"\s*([^\s=!]+)\s*(==|!=)\s*(.*?)\s*")
_VALUE: Final = re.compile(r"[A-Za-z0-9:\-_\s.*()?+\[\]\\^$|/@]+")


@dataclass(frozen=True, slots=True)
class Constraint:
    """One condition. `equal` tells `==` from `!=`; values compare without regard to case."""

    key: str
    equal: bool
    value: str

    def __str__(self) -> str:
        return f"{self.key}{'==' if self.equal else '!='}{self.value}"


def parse(text: str) -> Constraint:
    """Return the constraint that `text` says.

    Raises:
        SwarmError: INVALID_ARGUMENT: not of the form, an unknown key, or an address that is none.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise invalid(f"invalid constraint {text!r}: write KEY==VALUE or KEY!=VALUE, such as node.role==worker")
    key, operator, value = match.groups()
    if not key.startswith(LABEL_PREFIXES) and key not in KEYS:
        raise invalid(f"unknown constraint key {key!r} in {text!r}: {_suggestion(key)}")
    if key in LABEL_PREFIXES:
        raise invalid(f"invalid constraint {text!r}: the label's name is missing behind {key!r}")
    if not value or _VALUE.fullmatch(value) is None:
        raise invalid(f"invalid constraint {text!r}: {value!r} is not a value")
    if key == "node.ip":
        _check_network(text, value)
    return Constraint(key, operator == "==", value)


def matches(constraint: Constraint, node: Node) -> bool:
    """Tell whether a node meets the constraint. A label that it does not have equals nothing."""
    if constraint.key == "node.ip":
        return _in_network(node.addr, constraint.value) == constraint.equal
    held = _value_of(constraint.key, node)
    same = held is not None and held.casefold() == constraint.value.casefold()
    return same == constraint.equal


def _value_of(key: str, node: Node) -> str | None:
    if key.startswith("node.labels."):
        return node.spec.labels.get(key.removeprefix("node.labels."))
    if key.startswith("engine.labels."):
        return node.description.engine_labels.get(key.removeprefix("engine.labels."))
    return {
        "node.id": node.id,
        "node.hostname": node.description.hostname,
        "node.role": word(node.spec.role),
        "node.platform.os": node.description.platform.os,
        "node.platform.arch": node.description.platform.arch,
    }[key]


def _suggestion(key: str) -> str:
    known = [*KEYS, *(f"{prefix}NAME" for prefix in LABEL_PREFIXES)]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"the keys are {', '.join(known)}"


def _check_network(text: str, value: str) -> None:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise invalid(f"invalid constraint {text!r}: {value!r} is neither an IP address nor a network") from error


def _in_network(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
