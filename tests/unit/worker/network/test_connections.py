"""Who is connected to a task, from the kernel's list of sockets."""

from __future__ import annotations

from ipaddress import IPv4Address

from worker.network.connections import Socket, count, parse

OWN = IPv4Address("10.0.1.5")
CLIENT = IPv4Address("10.0.1.9")
LISTENING, ESTABLISHED, CLOSE_WAIT, TIME_WAIT = 0x0A, 0x01, 0x08, 0x06

# As a machine with little-endian numbers prints them.
TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0501000A:0050 0901000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1
  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 0000000000000000FFFF00000501000A:1F90 0000000000000000FFFF00000901000A:C351 08 00000000:00000000
"""


def heard(port: int) -> Socket:
    return Socket(IPv4Address(0), port, IPv4Address(0), LISTENING)


def test_both_families_lists_are_read() -> None:
    assert list(parse(TABLE)) == [
        heard(80),
        Socket(OWN, 80, CLIENT, ESTABLISHED),
        Socket(OWN, 8080, CLIENT, CLOSE_WAIT),
    ]
    assert count(parse(TABLE), {OWN}) == 1


def test_what_the_task_began_or_has_ended_is_not_counted() -> None:
    rows = [
        heard(80),
        Socket(OWN, 40000, CLIENT, ESTABLISHED),  # it is the client
        Socket(OWN, 80, CLIENT, TIME_WAIT),
        Socket(OWN, 80, OWN, ESTABLISHED),  # it asks itself
        Socket(IPv4Address("127.0.0.1"), 80, IPv4Address("127.0.0.1"), ESTABLISHED),
    ]
    assert count(rows, {OWN}) == 0
    assert count([*rows, Socket(OWN, 80, CLIENT, CLOSE_WAIT)], {OWN}) == 1
