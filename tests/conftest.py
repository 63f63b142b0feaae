"""What all tests share: the rule for root-only tests, and how long properties are looked at."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.register_profile("soak", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Few tests run containers, and those say so (tests/support/container_node.py); all other nodes need none.
os.environ.setdefault("SWARMPY_CONTAINERD", "off")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip root-only tests for other users; where CI demands them, being another user is a failure instead."""
    if os.geteuid() == 0:
        return
    reason = "needs root: cgroups, namespaces and other users"
    for item in items:
        if "root" in item.keywords:
            if os.environ.get("SWARMPY_REQUIRE_ROOT_TESTS"):
                raise pytest.UsageError("SWARMPY_REQUIRE_ROOT_TESTS is set, but this is not root")
            item.add_marker(pytest.mark.skip(reason=reason))
