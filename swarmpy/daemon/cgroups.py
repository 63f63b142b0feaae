"""The cgroups of this node's tasks: the worker notes where they are, and who stops the last task removes them.

The worker makes and removes each task's own, but it is gone before the tasks are when the whole node stops.
"""

from __future__ import annotations

import os

RECORD = "cgroups"
"""Name of the record in `run/`: this node's directory in each cgroup hierarchy, one a line."""


def remove(record: str) -> list[str]:
    """Remove what `record` names, groups of tasks first; return what stays, because it is not empty yet."""
    try:
        with open(record, encoding="utf-8") as file:
            directories = file.read().splitlines()
    except FileNotFoundError:
        return []
    return [directory for directory in directories if not _remove(directory)]


def _remove(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            groups = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for group in groups:
            os.rmdir(group)
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
