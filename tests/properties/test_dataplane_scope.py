"""Laws of names on networks: nobody finds what shares no network with it, and no history changes an answer."""

from __future__ import annotations

import ipaddress

import dnslib
from hypothesis import given
from hypothesis import strategies as st

from swarmpy.model.endpoints import EndpointsUpdate, Neighbour, ServiceEndpoint
from tests.support.dataplane import port, task
from tests.support.names import World, neighbour, network, question, shared, told
from worker.dataplane.dns.wire import Query

NETWORKS = ("net1", "net2", "net3")
SERVICES = ("web", "api", "shop_db")
ALIASES = ("www", "db", "web", "a.b")
NAMES = (
    *SERVICES,
    *ALIASES,
    *(f"{part}.{name}" for part in ("tasks", "1", "2") for name in (*SERVICES, "www", "a.b")),
    *(f"{name}.swarm" for name in SERVICES),
    *(f"web.net-{n}" for n in (1, 2, 3)),
    "db.shop",
    "tasks.db.shop",
    "_80._tcp.web",
    *(f"{host}.0.{n}.10.in-addr.arpa" for n in (1, 2, 3) for host in (2, 3, 4, 11, 12)),
)
scopes = st.frozensets(st.sampled_from(NETWORKS), min_size=1)


@st.composite
def services(draw: st.DrawFn, name: str) -> ServiceEndpoint:
    vips = {n: f"10.{n[3:]}.0.{SERVICES.index(name) + 2}" for n in draw(scopes)}
    aliases = {n: draw(st.lists(st.sampled_from(ALIASES), max_size=2)) for n in vips}
    if draw(st.booleans()):
        vips = dict.fromkeys(vips, "")
    return shared(name, vips, port("80"), aliases=aliases, stack="shop" if name == "shop_db" else "")


@st.composite
def neighbours(draw: st.DrawFn, name: str, slot: int) -> Neighbour:
    host = 10 + 4 * SERVICES.index(name) + slot
    return neighbour(f"{name}-{slot}", name, *(f"10.{n[3:]}.0.{host}" for n in sorted(draw(scopes))), slot=slot)


@st.composite
def updates(draw: st.DrawFn, revision: int) -> EndpointsUpdate:
    names = draw(st.lists(st.sampled_from(SERVICES), unique=True))
    places = st.lists(st.tuples(st.sampled_from(SERVICES), st.integers(1, 2)), unique=True, max_size=4)
    return EndpointsUpdate(
        revision=revision,
        services=tuple(draw(services(name)) for name in names),
        removed_services=tuple(f"id-{name}" for name in draw(st.lists(st.sampled_from(SERVICES), max_size=1))),
        backends=tuple(task(f"{name}-{slot}", f"id-{name}", slot=slot) for name, slot in draw(places)),
        removed_backends=tuple(f"{name}-{slot}" for name, slot in draw(places)[:1]),
        networks=tuple(network(n) for n in draw(st.lists(st.integers(1, 3), unique=True))),
        removed_networks=tuple(draw(st.lists(st.sampled_from(NETWORKS), max_size=1))),
        neighbours=tuple(draw(neighbours(name, slot)) for name, slot in draw(places)),
        removed_neighbours=tuple(f"{name}-{slot}" for name, slot in draw(places)[:1]),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[EndpointsUpdate]:
    return [draw(updates(revision)) for revision in range(1, draw(st.integers(2, 6)))]


names = st.sampled_from(NAMES)
types = st.sampled_from(["A", "SRV", "PTR", "AAAA"])


@given(histories(), scopes, names, types)
def test_nothing_is_said_of_a_network_that_is_not_shared(
    history: list[EndpointsUpdate], scope: frozenset[str], name: str, qtype: str
) -> None:
    world = World(*history)
    answer = world.responder(*scope).reply(question(name, qtype))
    if isinstance(answer, Query):
        return
    assert answer is not None
    parsed = dnslib.DNSRecord.parse(answer)
    on_shared = {s.name for s in world.table.services.values() if scope & {share.network_id for share in s.networks}}
    for record in (*parsed.rr, *parsed.ar):
        if record.rtype == dnslib.QTYPE.A:
            address = ipaddress.IPv4Address(str(record.rdata))
            assert f"net{address.packed[1]}" in scope
        elif record.rtype == dnslib.QTYPE.PTR:
            labels = str(record.rdata).rstrip(".").split(".")
            assert labels[0] in on_shared
            assert f"net{labels[-1].removeprefix('net-')}" in scope
        elif record.rtype == dnslib.QTYPE.SRV:
            assert str(record.rdata).split()[3].split(".")[1] in on_shared


@given(histories(), scopes, st.lists(st.tuples(names, types), min_size=1, max_size=6))
def test_kept_answers_and_histories_change_nothing(
    history: list[EndpointsUpdate], scope: frozenset[str], asked: list[tuple[str, str]]
) -> None:
    following = World()
    kept = following.responder(*scope)
    for update in history:
        for name, qtype in asked:
            kept.reply(question(name, qtype))
        before = dict(following.table.neighbours.networks)
        kept.drop(following.apply(update))
        if before != following.table.neighbours.networks:
            kept.clear()  # as the data plane does: networks are few and change seldom
    fresh = World(following.table.snapshot()).responder(*scope)
    for name, qtype in asked:
        packet = question(name, qtype)
        assert told(kept.reply(packet)) == told(fresh.reply(packet))


@given(histories(), scopes, st.sampled_from([n for n in NAMES if not n.endswith("arpa")]))
def test_a_name_exists_for_all_types_or_for_none(
    history: list[EndpointsUpdate], scope: frozenset[str], name: str
) -> None:
    answering = World(*history).responder(*scope)
    one, other = (told(answering.reply(question(name, qtype)))[0] for qtype in ("A", "AAAA"))
    assert (one == "NXDOMAIN") == (other == "NXDOMAIN")
    assert (one == "outside") == (other == "outside")
