"""Finding what a person named: a full id, a name, or a unique prefix of an id, in this order."""

from __future__ import annotations

from collections.abc import Sequence

from manager.store.tables import CONFIGS, NETWORKS, NODES, SERVICES, TASKS, T, Table
from manager.store.view import View
from swarmpy.errors import SwarmError, invalid, not_found
from swarmpy.model.config import Config
from swarmpy.model.network import INGRESS, PREDEFINED, Network
from swarmpy.model.node import Node
from swarmpy.model.service import Service
from swarmpy.model.task import Task

MAX_SHOWN = 5


def find_service(view: View, ref: str) -> Service:
    """Return the service that `ref` names. NOT_FOUND, or INVALID_ARGUMENT where it is ambiguous."""
    return _find(view, SERVICES, ref, list(view.find(SERVICES, "name", ref)))


def find_node(view: View, ref: str) -> Node:
    """Return the node that `ref` names. NOT_FOUND, or INVALID_ARGUMENT where it is ambiguous."""
    return _find(view, NODES, ref, list(view.find(NODES, "name", ref)))


def find_config(view: View, ref: str) -> Config:
    """Return the config that `ref` names. NOT_FOUND, or INVALID_ARGUMENT where it is ambiguous."""
    return _find(view, CONFIGS, ref, list(view.find(CONFIGS, "name", ref)))


def find_network(view: View, ref: str) -> Network:
    """Return the network that `ref` names. NOT_FOUND, or INVALID_ARGUMENT where it is ambiguous."""
    if ref in (*PREDEFINED, INGRESS):
        raise invalid(f"{ref} is predefined on every node: the cluster keeps nothing about it")
    return _find(view, NETWORKS, ref, list(view.find(NETWORKS, "name", ref)))


def find_task(view: View, ref: str) -> Task:
    """Return the task that `ref` names: its id, or `<service>.<slot>` or `<service>.<slot>.<id>`."""
    service_name, _, rest = ref.rpartition(".")
    if service_name and rest:
        exact = view.get(TASKS, rest)
        if exact is not None:
            return exact
        services = view.find(SERVICES, "name", service_name)
        tasks = [
            t
            for s in services
            for t in view.find(TASKS, "service_id", s.id)
            if rest.isdecimal() and t.slot == int(rest)
        ]
        if tasks:
            return max(tasks, key=lambda t: (t.created_at, t.id))
    return _find(view, TASKS, ref, [])


def _find(view: View, table: Table[T], ref: str, named: Sequence[T]) -> T:
    if not ref:
        raise invalid(f"no {table.noun} is named: give its name or id")
    exact = view.get(table, ref)
    if exact is not None:
        return exact
    if len(named) > 1:
        raise _ambiguous(table, ref, named)
    if named:
        return named[0]
    matches = _with_prefix(view, table, ref)
    if len(matches) > 1:
        raise _ambiguous(table, ref, matches)
    if matches:
        return matches[0]
    raise not_found(f"no such {table.noun}: {ref}")


def _with_prefix(view: View, table: Table[T], prefix: str) -> list[T]:
    # No id lies between "the prefix with its last character lowered, then ~" and the first id with the prefix.
    following = view.after(table, prefix[:-1] + chr(ord(prefix[-1]) - 1) + "~", MAX_SHOWN + 1)
    return [row for row in following if row.id.startswith(prefix)]


def _ambiguous(table: Table[T], ref: str, rows: Sequence[T]) -> SwarmError:
    shown = ", ".join(row.id for row in rows[:MAX_SHOWN]) + (", ..." if len(rows) > MAX_SHOWN else "")
    return invalid(f"{table.noun} {ref} is ambiguous ({shown}): give the full id")
