"""The rules for a config."""

from __future__ import annotations

from swarmpy.errors import Problem
from swarmpy.model.config import MAX_CONFIG_BYTES, ConfigSpec
from swarmpy.model.validate.checks import labels
from swarmpy.model.validate.names import config_name


def validate_config_spec(spec: ConfigSpec) -> list[Problem]:
    """Return every problem of a config."""
    problems = [*config_name("name", spec.name), *labels("labels", spec.labels)]
    if not spec.data:
        problems.append(Problem("data", "is empty: a config holds at least one byte"))
    elif len(spec.data) > MAX_CONFIG_BYTES:
        problems.append(Problem("data", f"has {len(spec.data)} bytes: {MAX_CONFIG_BYTES} (1000 KiB) is the most"))
    return problems
