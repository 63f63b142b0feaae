"""What is in force: tables, chains, rules and elements as the kernel lists them."""

from __future__ import annotations

from dataclasses import dataclass

from swarmpy.errors import Code, SwarmError
from worker.network.nft.attributes import NLM_F_DUMP, Attributes, each, number, parse, signed, string, text
from worker.network.nft.batch import COMMENT, INTERVAL_END, IPV4, SUBSYSTEM, Element, Kind
from worker.network.nft.expressions import Outcome, Verdict
from worker.network.nft.sock import Netfilter


@dataclass(frozen=True)
class TableRow:
    name: str
    comment: str


@dataclass(frozen=True)
class ChainRow:
    """A chain; `kind`, `hook` and `policy` (0 drops) of one that hangs on a hook, else "" and None."""

    table: str
    name: str
    kind: str = ""
    hook: int | None = None
    policy: int | None = None


@dataclass(frozen=True)
class RuleRow:
    """A rule; `goes_to` names the chains that it jumps or goes to."""

    handle: int
    comment: str
    goes_to: tuple[str, ...]


def tables(sock: Netfilter, family: int = IPV4) -> list[TableRow]:
    found = _list(sock, Kind.GET_TABLE, family, b"", "list tables")
    return [TableRow(string(row.get(1, b"")), comment(row.get(6, b""))) for row in found]


def chains(sock: Netfilter, family: int = IPV4) -> list[ChainRow]:
    """Return the chains of all tables of a family."""
    return [_chain(row) for row in _list(sock, Kind.GET_CHAIN, family, b"", "list chains")]


def _chain(row: Attributes) -> ChainRow:
    table, name = string(row.get(1, b"")), string(row.get(3, b""))
    if 4 not in row:
        return ChainRow(table, name)
    return ChainRow(table, name, string(row.get(7, b"")), number(parse(row[4]).get(1, b"")), number(row.get(5, b"\1")))


def rules(sock: Netfilter, table: str, chain: str) -> list[RuleRow]:
    """Return a chain's rules in order; of a chain that is not there, none."""
    payload = text(1, table) + text(2, chain)
    found = _list(sock, Kind.GET_RULE, IPV4, payload, f"list the rules of chain {chain} of table {table}")
    return [
        RuleRow(number(row[3]), comment(row.get(7, b"")), tuple(_targets(row.get(4, b""))))
        for row in found
        if string(row.get(2, b"")) == chain
    ]


def _targets(expressions: bytes) -> list[str]:
    found = []
    for _, raw in each(expressions):
        expression = parse(raw)
        if string(expression.get(1, b"")) != "immediate":
            continue
        value = parse(parse(expression.get(2, b"")).get(2, b""))
        if 2 in value:
            found.append(string(parse(value[2]).get(2, b"")))
    return [name for name in found if name]


def elements(sock: Netfilter, table: str, name: str) -> list[Element]:
    """Return the elements of a set or map, in no order.

    Raises:
        SwarmError: NOT_FOUND, there is no such set.
    """
    payload = text(1, table) + text(2, name)
    found = sock.ask(SUBSYSTEM | Kind.GET_ELEMENT, IPV4, payload, f"list set {name} of table {table}", flags=NLM_F_DUMP)
    return [decode_element(raw) for part in found for _, raw in each(parse(part).get(3, b""))]


def decode_element(raw: bytes) -> Element:
    """Return an element from its attributes.

    Raises:
        SwarmError: CORRUPT, it has no key.
    """
    row = parse(raw)
    key = parse(row.get(1, b"")).get(1)
    if key is None:
        raise SwarmError(Code.CORRUPT, "an element of a set has no key; please report it")
    return Element(key, _value(parse(row.get(2, b""))), bool(number(row.get(3, b"")) & INTERVAL_END))


def _value(data: Attributes) -> bytes | Verdict | None:
    if 1 in data:
        return data[1]
    if 2 not in data:
        return None
    parts = parse(data[2])
    return Verdict(Outcome(signed(parts[1])), string(parts.get(2, b"")))


def comment(raw: bytes) -> str:
    """Return the comment in user data, "" without one."""
    offset = 0
    while offset + 2 <= len(raw):
        kind, length = raw[offset], raw[offset + 1]
        if kind == COMMENT:
            return string(raw[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""


def _list(sock: Netfilter, kind: Kind, family: int, payload: bytes, what: str) -> list[Attributes]:
    return [parse(part) for part in sock.ask(SUBSYSTEM | kind, family, payload, what, flags=NLM_F_DUMP)]
