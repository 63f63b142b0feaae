"""Which settings are a namespace's own."""

from __future__ import annotations

import pytest

from swarmpy.errors import Code, SwarmError
from worker.network.link import sysctl


@pytest.mark.parametrize("name", ["net.core.somaxconn", "net/ipv4/conf/eth0.5/rp_filter", "net.ipv4.ip_forward"])
def test_settings_of_a_namespace(name: str) -> None:
    sysctl.check({name: "1"})


@pytest.mark.parametrize("name", ["kernel.msgmax", "net", "net/../kernel/panic", "network.x", "", "net.ipv4/../x"])
def test_others_are_refused(name: str) -> None:
    with pytest.raises(SwarmError, match=r"only net\.\*") as refused:
        sysctl.check({name: "1"})
    assert refused.value.code is Code.INVALID_ARGUMENT


def test_what_this_kernel_has_not() -> None:
    assert sysctl.read("net.core.no_such_thing") is None
    sysctl.write({"net.core.no_such_thing": "1"}, missing_ok=True)
    with pytest.raises(SwarmError, match=r"no sysctl 'net.core.no_such_thing'"):
        sysctl.write({"net.core.no_such_thing": "1"})
