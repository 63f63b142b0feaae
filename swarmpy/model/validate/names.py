"""Names of services, nodes, configs and networks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from swarmpy.errors import Problem
from swarmpy.model.network import INGRESS, PREDEFINED

MAX_NAME: Final = 63
MAX_CONFIG_NAME: Final = 64
_SERVICE: Final = re.compile(r"[a-zA-Z0-9](?:[-_a-zA-Z0-9]*[a-zA-Z0-9])?")
_NODE: Final = re.compile(r"[a-zA-Z0-9](?:[-_.a-zA-Z0-9]*[a-zA-Z0-9])?")
_RESERVED: Final = "tasks"


def service_name(path: str, name: str) -> Iterator[Problem]:
    """A service's name is a DNS label; a stack's prefix (`stack_`) is part of it."""
    if not name:
        yield Problem(path, "is missing: give the service a name")
    elif len(name) > MAX_NAME:
        yield Problem(path, f"{name!r} has {len(name)} characters: {MAX_NAME} is the most")
    elif _SERVICE.fullmatch(name) is None:
        yield Problem(
            path, f"{name!r} is not a service name: use letters, digits, - and _, with a letter or digit at both ends"
        )
    elif name.casefold() == _RESERVED:
        yield Problem(
            path, f"{name!r} is reserved, since `tasks.<service>` names a service's tasks: choose another name"
        )
    elif name.isdigit():
        yield Problem(path, f"{name!r} is a number, which would be taken for a slot (`<slot>.<service>`): add a letter")


def config_name(path: str, name: str) -> Iterator[Problem]:
    """A config's name may hold dots, so that a file's name can serve."""
    if not name:
        yield Problem(path, "is missing: give the config a name")
    elif len(name) > MAX_CONFIG_NAME or _NODE.fullmatch(name) is None:
        yield Problem(
            path,
            f"{name!r} is not a config name: use at most {MAX_CONFIG_NAME} letters, digits, -, _ and .,"
            " with a letter or digit at both ends",
        )


def network_name(path: str, name: str) -> Iterator[Problem]:
    """A network's name is none of those that every node has."""
    if not name:
        yield Problem(path, "is missing: give the network a name")
    elif len(name) > MAX_NAME or _NODE.fullmatch(name) is None:
        yield Problem(
            path,
            f"{name!r} is not a network name: use at most {MAX_NAME} letters, digits, -, _ and .,"
            " with a letter or digit at both ends",
        )
    elif name.casefold() in (*PREDEFINED, INGRESS):
        yield Problem(path, f"{name!r} is predefined on every node: choose another name")


def node_name(path: str, name: str) -> Iterator[Problem]:
    """A node's own name may be empty (its host name serves then); else it looks like a host name."""
    if name and (len(name) > MAX_NAME or _NODE.fullmatch(name) is None):
        yield Problem(
            path, f"{name!r} is not a node name: use at most {MAX_NAME} letters, digits, -, _ and ., not at the ends"
        )
