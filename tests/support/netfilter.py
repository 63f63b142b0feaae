"""nf_tables as far as it is used: a kernel in memory that applies batches whole or not at all, and lists its tables."""

from __future__ import annotations

import copy
import errno
from collections.abc import Iterator
from dataclasses import dataclass, field

from worker.network.nft.attributes import (
    NLM_F_APPEND,
    Attributes,
    attribute,
    each,
    nested,
    number,
    parse,
    string,
    text,
    u32,
    u64,
)
from worker.network.nft.batch import SUBSYSTEM, Batch, Element, Kind, Request
from worker.network.nft.dump import decode_element
from worker.network.nft.expressions import Verdict
from worker.network.nft.sock import failure


@dataclass
class FakeRule:
    handle: int
    expressions: bytes
    user_data: bytes

    def parts(self) -> list[tuple[str, Attributes]]:
        """Return each expression's name and attributes."""
        rows = [parse(raw) for _, raw in each(self.expressions)]
        return [(string(row[1]), parse(row[2])) for row in rows]

    def goes_to(self) -> Iterator[str]:
        for name, attributes in self.parts():
            value = parse(attributes.get(2, b"")) if name == "immediate" else {}
            if 2 in value:
                yield string(parse(value[2]).get(2, b""))


@dataclass
class FakeTable:
    user_data: bytes = b""
    chains: dict[str, list[FakeRule]] = field(default_factory=dict)
    hooks: dict[str, bytes] = field(default_factory=dict)
    sets: dict[str, dict[bytes, Element]] = field(default_factory=dict)

    def is_used(self, chain: str) -> bool:
        verdicts = (element.value for elements in self.sets.values() for element in elements.values())
        rules = (rule for rules in self.chains.values() for rule in rules)
        return any(isinstance(verdict, Verdict) and verdict.chain == chain for verdict in verdicts) or any(
            chain in rule.goes_to() for rule in rules
        )


class Refused(Exception):  # noqa: N818 - an answer of the kernel
    """An error number."""


class FakeNetfilter:
    """One network namespace's; `batches` are those that were applied, `refuse` is the error of the next one."""

    def __init__(self) -> None:
        self.tables: dict[str, FakeTable] = {}
        self.batches: list[Batch] = []
        self.refuse = 0
        self._handle = 0

    def commit(self, batch: Batch) -> None:
        if not batch:
            return
        before = copy.deepcopy(self.tables)
        try:
            for request in batch.requests:
                self._apply(request)
        except Refused as refused:
            self.tables = before
            raise failure(refused.args[0], request.what) from refused
        if self.refuse:
            error, self.refuse, self.tables = self.refuse, 0, before
            raise failure(error, batch.requests[0].what)
        self.batches.append(batch)

    def ask(self, kind: int, family: int, payload: bytes, what: str, *, flags: int = 0) -> list[bytes]:
        row = parse(payload)
        match kind ^ SUBSYSTEM:
            case Kind.GET_TABLE:
                return [text(1, name) + attribute(6, table.user_data) for name, table in self.tables.items()]
            case Kind.GET_CHAIN:
                return [
                    text(1, name) + text(3, chain) + table.hooks.get(chain, b"")
                    for name, table in self.tables.items()
                    for chain in table.chains
                ]
            case Kind.GET_RULE:
                table = self.tables.get(string(row[1]), FakeTable())
                return [
                    text(2, chain) + u64(3, rule.handle) + nested(4, rule.expressions) + attribute(7, rule.user_data)
                    for chain, rules in table.chains.items()
                    if 2 not in row or chain == string(row[2])
                    for rule in rules
                ]
            case Kind.GET_ELEMENT:
                try:
                    elements = self._set(row, 2)
                except Refused as refused:
                    raise failure(refused.args[0], what) from refused
                return [nested(3, *(element.encode() for element in elements.values()))]
        raise AssertionError(f"{what}: this fake has no answer to it")

    def _apply(self, request: Request) -> None:
        row = parse(request.payload)
        name = string(row[1])
        match request.kind:
            case Kind.NEW_TABLE:
                self.tables.setdefault(name, FakeTable(row.get(6, b"")))
            case Kind.DELETE_TABLE:
                if self.tables.pop(name, None) is None:
                    raise Refused(errno.ENOENT)
            case Kind.NEW_SET:
                self._table(row).sets.setdefault(string(row[2]), {})
            case Kind.NEW_CHAIN | Kind.DELETE_CHAIN:
                self._chain(request.kind, row)
            case Kind.NEW_RULE | Kind.DELETE_RULE:
                self._rule(request, row)
            case Kind.NEW_ELEMENT | Kind.DELETE_ELEMENT:
                self._elements(request.kind, row)
            case _:
                raise AssertionError(f"{request.what}: this fake cannot do it")

    def _table(self, row: Attributes) -> FakeTable:
        table = self.tables.get(string(row[1]))
        if table is None:
            raise Refused(errno.ENOENT)
        return table

    def _set(self, row: Attributes, at: int) -> dict[bytes, Element]:
        found = self._table(row).sets.get(string(row[at]))
        if found is None:
            raise Refused(errno.ENOENT)
        return found

    def _chain(self, kind: Kind, row: Attributes) -> None:
        table, name = self._table(row), string(row[3])
        if kind == Kind.NEW_CHAIN:
            table.chains.setdefault(name, [])
            if 4 in row:
                table.hooks[name] = nested(4, row[4]) + u32(5, number(row[5])) + attribute(7, row[7])
            return
        if name not in table.chains:
            raise Refused(errno.ENOENT)
        if table.chains[name] or table.is_used(name):
            raise Refused(errno.EBUSY)
        del table.chains[name]

    def _rule(self, request: Request, row: Attributes) -> None:
        rules = self._table(row).chains.get(string(row[2]))
        if rules is None:
            raise Refused(errno.ENOENT)
        handles = [rule.handle for rule in rules]
        if request.kind == Kind.DELETE_RULE:
            kept = [rule for rule in rules if 3 in row and rule.handle != number(row[3])]
            if 3 in row and len(kept) == len(rules):
                raise Refused(errno.ENOENT)
            rules[:] = kept
            return
        self._handle += 1
        rule = FakeRule(self._handle, row[4], row.get(7, b""))
        last = len(rules) if request.flags & NLM_F_APPEND else 0
        place = handles.index(number(row[6])) + 1 if 6 in row else last
        rules.insert(place, rule)

    def _elements(self, kind: Kind, row: Attributes) -> None:
        there = self._set(row, 2)
        for _, raw in each(row[3]):
            element = decode_element(raw)
            if kind == Kind.DELETE_ELEMENT:
                if there.pop(element.key, None) is None:
                    raise Refused(errno.ENOENT)
                continue
            if isinstance(element.value, Verdict) and element.value.chain not in self._table(row).chains:
                raise Refused(errno.ENOENT)
            if there.setdefault(element.key, element) != element:
                raise Refused(errno.EEXIST)
