"""Who may call what: callers on the network are named by their certificate and must have a node row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from manager.api.relay import CALLER_KEY
from manager.store.store import Store
from manager.store.tables import NODES
from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import NodeRole
from swarmpy.security.names import NodeName, from_alternative_names

SERVICES_OF_MANAGERS: Final = frozenset({"swarmpy.api.v1.Control", "swarmpy.api.v1.Membership"})
# Its callers are checked by the members that they are: a manager that has just come knows of no node yet.
CONSENSUS: Final = "swarmpy.api.v1.Raft"


def peer_name(context: Any) -> NodeName:
    """Return whose certificate the caller has shown.

    Raises:
        SwarmError: UNAUTHENTICATED, the certificate names no node.
    """
    names = context.auth_context().get("x509_subject_alternative_name", ())
    found = from_alternative_names(names)
    if found is None:
        raise SwarmError(Code.UNAUTHENTICATED, "the caller's certificate names no node of a swarmpy cluster")
    return found


def caller_of(context: Any, here: str) -> str:
    """Return the node that makes a call: that of its certificate, or of what the manager that relays it says.

    Only managers may make the calls that are relayed, so each is believed. On the local socket it is `here`.
    """
    named = dict(context.invocation_metadata()).get(CALLER_KEY)
    if named is not None:
        return str(named)
    found = from_alternative_names(context.auth_context().get("x509_subject_alternative_name", ()))
    return found.node_id if found is not None else here


class Admission:
    """Authorises calls on the network port. A worker's certificate never authorises a control call."""

    def __init__(self, store: Store, cluster_id: str, is_leader: Callable[[], bool] = lambda: True) -> None:
        """
        Args:
            is_leader: whether this manager knows of every node; one that does not lead may be behind.
        """
        self._store = store
        self._cluster_id = cluster_id
        self._is_leader = is_leader

    def authorize(self, method: str, context: Any) -> None:
        """Raise PERMISSION_DENIED or UNAUTHENTICATED unless the caller may call `/package.Service/Method`."""
        name = peer_name(context)
        service = method.lstrip("/").partition("/")[0]
        if name.cluster_id != self._cluster_id:
            raise SwarmError(Code.PERMISSION_DENIED, "the caller belongs to another cluster")
        if service == CONSENSUS:
            if name.role is not NodeRole.MANAGER:
                raise SwarmError(Code.PERMISSION_DENIED, "this call is for managers")
            return
        node = self._store.view().get(NODES, name.node_id)
        if node is None and not self._is_leader():
            raise SwarmError(Code.UNAVAILABLE, "this manager knows of no such node yet: ask the one that leads")
        if node is None:
            raise SwarmError(Code.PERMISSION_DENIED, "this node was removed from the cluster")
        if service in SERVICES_OF_MANAGERS and not (name.role is node.role is NodeRole.MANAGER):
            raise SwarmError(Code.PERMISSION_DENIED, "this call is for managers: run it on a manager")
