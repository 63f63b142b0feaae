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
    return [_rule(row) for row in found if string(row.get(2, b"")) == chain]


def _rule(row: Attributes) -> RuleRow:
    """Return a rule. Its comment may also be an expression: so iptables writes those that it has saved and restored."""
    goes_to, comments = [], [comment(row.get(7, b""))]
    for _, raw in each(row.get(4, b"")):
        expression = parse(raw)
        name, attributes = string(expression.get(1, b"")), parse(expression.get(2, b""))
        if name == "immediate":
            verdict = parse(parse(attributes.get(2, b"")).get(2, b""))
            goes_to.append(string(verdict.get(2, b"")))
        elif name == "match" and string(attributes.get(1, b"")) == "comment":
            comments.append(string(attributes.get(3, b"").partition(b"\0")[0]))
    return RuleRow(number(row[3]), next(filter(None, comments), ""), tuple(filter(None, goes_to)))


def count_rules(sock: Netfilter, table: str) -> int:
    """Return the number of a table's rules; of a table that is not there, 0."""
    return len(_list(sock, Kind.GET_RULE, IPV4, text(1, table), f"list the rules of table {table}"))


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
