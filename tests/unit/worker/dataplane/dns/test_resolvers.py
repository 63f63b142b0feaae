from __future__ import annotations

from pathlib import Path

from tests.support.clock import FakeClock
from worker.dataplane.dns.resolvers import Resolvers, name_servers

TEXT = """# by hand
nameserver 127.0.0.53
nameserver 10.0.0.1 # the office's
nameserver fe80::1%lo
nameserver office
nameserver
 nameserver 10.0.0.1
search example.com
"""


def test_addresses_are_read_and_the_rest_is_passed_over() -> None:
    assert name_servers(TEXT) == ("127.0.0.53", "10.0.0.1", "fe80::1%lo")


async def test_a_changed_file_is_read_again_and_a_missing_one_is_waited_for(tmp_path: Path) -> None:
    path, clock = tmp_path / "resolv.conf", FakeClock()
    resolvers = Resolvers(path, clock=clock, is_own=lambda address: address == "10.0.0.5")
    assert resolvers.servers() == ()
    path.write_text("nameserver 10.0.0.1\nnameserver 10.0.0.5\n")
    assert resolvers.servers() == (), "it is looked at once a second"
    await clock.advance(1.0)
    assert resolvers.servers() == ("10.0.0.1",)
    path.unlink()
    await clock.advance(1.0)
    assert resolvers.servers() == ("10.0.0.1",)
    path.write_text("nameserver 10.0.0.22\n")
    await clock.advance(1.0)
    assert resolvers.servers() == ("10.0.0.22",)
