"""DNS answers as text: a table, then questions, then what a resolver would read."""

from __future__ import annotations

from pathlib import Path

import dnslib
import pytest

from swarmpy.model.endpoints import Backend, EndpointsUpdate, ServiceEndpoint
from tests.support.dataplane import port, service, task
from tests.support.scenario import check_scenario
from worker.dataplane.dns.answers import TCP_BYTES, UDP_BYTES, Responder
from worker.dataplane.dns.view import NodeView
from worker.dataplane.dns.zone import Zone
from worker.dataplane.endpoints import EndpointTable

FOLDER = Path(__file__).parents[4] / "testdata" / "dns"


class World:
    """A table, its zone, and a responder for each kind of asker."""

    def __init__(self) -> None:
        self.table = EndpointTable()
        self.zone = Zone(self.table, server_address="127.0.0.2")
        self.zone.vip_prefix = "127.93"
        self.responders = {
            (local, tcp): Responder(
                NodeView(self.zone, local=local), max_bytes=TCP_BYTES if tcp else UDP_BYTES, cache_bytes=1 << 20
            )
            for local in (True, False)
            for tcp in (True, False)
        }
        self._last_id = 0

    def run(self, commands: list[str]) -> list[str]:
        if commands[0].startswith("ask "):
            return [line for command in commands for line in self._ask(*command.split()[1:])]
        self._update(commands)
        return [f"revision {self.table.revision}"]

    def _update(self, commands: list[str]) -> None:
        services: list[ServiceEndpoint] = []
        backends: list[Backend] = []
        gone_services: list[str] = []
        gone_tasks: list[str] = []
        for verb, name, *words in (command.split() for command in commands):
            fields = dict(word.partition("=")[::2] for word in words)
            if verb == "service":
                ports = [port(word[5:]) for word in words if word.startswith("port=")]
                services.append(
                    service(
                        name,
                        *ports,
                        vip=int(fields.get("vip", 0)),
                        stack=fields.get("stack", ""),
                        dnsrr="dnsrr" in fields,
                    )
                )
            elif verb == "task":
                pairs = [word[5:].split(":") for word in words if word.startswith("port=")]
                backends.append(
                    task(
                        name,
                        fields["of"],
                        *((int(target), int(number)) for target, number in pairs),
                        slot=int(fields.get("slot", 0)),
                        address=fields["at"],
                    )
                )
            elif verb == "remove":
                (gone_tasks if "task" in fields else gone_services).append(name)
            else:
                raise AssertionError(f"unknown command {verb}")
        change = self.table.apply(
            EndpointsUpdate(
                revision=self.table.revision + 1,
                services=tuple(services),
                backends=tuple(backends),
                removed_services=tuple(gone_services),
                removed_backends=tuple(gone_tasks),
            )
        )
        assert change is not None
        tokens = self.zone.apply(change)
        for responder in self.responders.values():
            responder.drop(tokens)

    def _ask(self, name: str, qtype: str, *words: str) -> list[str]:
        fields = dict(word.partition("=")[::2] for word in words)
        self._last_id += 1
        query = dnslib.DNSRecord(
            dnslib.DNSHeader(id=self._last_id, rd=int("rd" in fields), opcode=int(fields.get("opcode", 0))),
            q=dnslib.DNSQuestion(name, getattr(dnslib.QTYPE, qtype), getattr(dnslib.CLASS, fields.get("class", "IN"))),
        )
        if "edns" in fields:
            query.add_ar(
                dnslib.EDNS0(
                    udp_len=int(fields["edns"]),
                    version=int(fields.get("version", 0)),
                    flags="do" * ("do" in fields),
                )
            )
        responder = self.responders["far" not in fields, "tcp" in fields]
        answer = responder.reply(bytes(query.pack()))
        if answer is None:
            return ["no answer"]
        assert len(answer) <= 512 or "tcp" in fields or "edns" in fields
        parsed = dnslib.DNSRecord.parse(answer)
        assert parsed.header.id == self._last_id
        assert parsed.header.qr == 1
        return show(parsed, brief="brief" in fields)


def show(answer: dnslib.DNSRecord, *, brief: bool) -> list[str]:
    """Return a response as lines: code and flags, then the records; `brief` counts them instead."""
    flags = [f for f in ("aa", "tc", "rd", "ra") if getattr(answer.header, f)]
    asked = [f"? {q.qname}" for q in answer.questions]
    first = " ".join([dnslib.RCODE[answer.header.rcode], *flags, *asked])
    if brief:
        rest = f"{len(answer.rr)} answers {len(answer.auth)} authorities {len(answer.ar)} additionals"
        return [first, rest, f"first {answer.rr[0].rdata}"]
    sections = (("", answer.rr), ("authority ", answer.auth), ("additional ", answer.ar))
    return [first, *(prefix + line(rr) for prefix, section in sections for rr in section)]


def line(rr: dnslib.RR) -> str:
    if rr.rtype == dnslib.QTYPE.OPT:
        return f"OPT version={rr.edns_ver} payload={rr.edns_len} rcode={rr.edns_rcode} do={rr.edns_do}"
    return f"{rr.rname} {rr.ttl} {dnslib.QTYPE[rr.rtype]} {rr.rdata}"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda p: p.stem)
def test_answers(path: Path) -> None:
    check_scenario(path, World().run)
