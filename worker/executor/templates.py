"""Docker's placeholders in a task's environment: `{{.Service.Name}}`, `{{.Task.Slot}}` and their like. Pure."""

from __future__ import annotations

import re
from typing import Final

from swarmpy.errors import invalid
from worker.assignments import Assignment
from worker.executor.node import NodeFacts

_PLACEHOLDER: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_INDEX: Final = re.compile(r'index\s+\.(Service|Node|Task)\.Labels\s+"([^"]*)"')
_LABEL: Final = ".Service.Labels."


def expand(text: str, assignment: Assignment, node: NodeFacts) -> str:
    """Return `text` with its placeholders filled in; a label that is not set becomes empty.

    Raises:
        SwarmError: INVALID_ARGUMENT, a placeholder is not one of those that there are.
    """
    if "{{" not in text or assignment.local:  # they are a service's; a user's own container is given the text itself
        return text
    known = {
        ".Service.ID": assignment.service_id,
        ".Service.Name": assignment.version.name,
        ".Node.ID": node.id,
        ".Node.Hostname": node.hostname,
        ".Node.Platform.OS": node.platform.os,
        ".Node.Platform.Architecture": node.platform.arch,
        ".Task.ID": assignment.id,
        ".Task.Name": assignment.name,
        ".Task.Slot": str(assignment.slot),
    }

    def value(match: re.Match[str]) -> str:
        key = match[1]
        if key in known:
            return known[key]
        indexed = _INDEX.fullmatch(key)
        if indexed is not None and indexed[1] == "Service":
            return assignment.version.labels.get(indexed[2], "")
        if key.startswith(_LABEL):
            return assignment.version.labels.get(key.removeprefix(_LABEL), "")
        raise invalid(
            f"the template {match[0]} in {text!r} is not known; there are {', '.join(known)} and .Service.Labels.NAME"
        )

    return _PLACEHOLDER.sub(value, text)
