from __future__ import annotations

import pytest

from tests.support.netfilter import FakeNetfilter


@pytest.fixture
def kernel() -> FakeNetfilter:
    return FakeNetfilter()
