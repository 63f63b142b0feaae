"""Laws of the endpoint table: how a history is cut into updates does not matter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmpy.model.endpoints import Backend, EndpointsUpdate, ServiceEndpoint
from tests.support.dataplane import service, task
from worker.dataplane.dns.view import NodeView
from worker.dataplane.dns.zone import Zone
from worker.dataplane.endpoints import EndpointTable

SERVICES = st.sampled_from(["s1", "s2", "s3"])
TASKS = st.sampled_from(["t1", "t2", "t3", "t4"])
State = tuple[dict[str, ServiceEndpoint], dict[str, Backend]]


@st.composite
def updates(draw: st.DrawFn, revision: int) -> EndpointsUpdate:
    services = draw(st.lists(SERVICES, unique=True, max_size=2))
    # A task never moves to another service: its id says which one it is of.
    tasks = draw(st.lists(st.tuples(TASKS, SERVICES), unique=True, max_size=3))
    return EndpointsUpdate(
        revision=revision,
        services=tuple(
            service(name, vip=draw(st.integers(1, 2)), stack=draw(st.sampled_from(["", "s"]))) for name in services
        ),
        backends=tuple(
            task(
                f"{task_id}-{of}",
                of,
                slot=draw(st.integers(1, 2)),
                address=draw(st.sampled_from(["127.0.0.2", "127.0.0.3"])),
            )
            for task_id, of in tasks
        ),
        removed_services=tuple(draw(st.lists(SERVICES, unique=True, max_size=1))),
        removed_backends=tuple(f"{t}-{s}" for t, s in draw(st.lists(st.tuples(TASKS, SERVICES), max_size=2))),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[EndpointsUpdate]:
    return [draw(updates(revision)) for revision in range(1, draw(st.integers(2, 9)))]


def model(state: State, update: EndpointsUpdate) -> State:
    """Say what an update means, as plainly as possible."""
    services, backends = dict(state[0]), dict(state[1])
    for gone in update.removed_services:
        services.pop(gone, None)
        backends = {t: b for t, b in backends.items() if b.service_id != gone}
    for gone in update.removed_backends:
        backends.pop(gone, None)
    services.update((s.service_id, s) for s in update.services)
    backends.update((b.task_id, b) for b in update.backends)
    return services, backends


def content(table: EndpointTable) -> tuple[object, ...]:
    snapshot = table.snapshot()
    ready = {s: table.ready(s) for s in ("s1", "s2", "s3")}
    return sorted(snapshot.services, key=repr), sorted(snapshot.backends, key=repr), ready, snapshot.revision


@given(histories(), st.data())
def test_any_split_of_a_history_gives_the_same_table(history: list[EndpointsUpdate], data: st.DataObject) -> None:
    one_by_one, joining_late = EndpointTable(), EndpointTable()
    joins_at = data.draw(st.integers(0, len(history) - 1))
    state: State = ({}, {})
    for index, update in enumerate(history):
        one_by_one.apply(update)
        state = model(state, update)
        complete = EndpointsUpdate(
            revision=update.revision,
            complete=True,
            services=tuple(state[0].values()),
            backends=tuple(state[1].values()),
        )
        if index == joins_at or (index > joins_at and data.draw(st.booleans())):
            joining_late.apply(complete)
        elif index > joins_at:
            joining_late.apply(update)
    assert content(one_by_one) == content(joining_late)
    assert {s.service_id: s for s in one_by_one.snapshot().services} == state[0]
    assert {b.task_id: b for b in one_by_one.snapshot().backends} == state[1]


@given(histories())
def test_a_change_says_exactly_what_differs(history: list[EndpointsUpdate]) -> None:
    table = EndpointTable()
    for update in history:
        services, tasks = dict(table.services), {b.task_id for b in table.snapshot().backends}
        ready = {s: table.ready(s) for s in services}
        change = table.apply(update)
        assert change is not None
        after = {b.task_id for b in table.snapshot().backends}
        assert change.removed == services.keys() - table.services.keys()
        assert change.withdrawn == tasks - after
        assert change.added == after - tasks
        differing = {s for s in table.services if services.get(s) != table.services[s] or ready[s] != table.ready(s)}
        assert differing <= change.changed <= table.services.keys()


@given(histories())
def test_a_zone_that_follows_knows_what_a_new_one_would(history: list[EndpointsUpdate]) -> None:
    table = EndpointTable()
    following = Zone(table, server_address="127.0.0.1")
    for update in history:
        change = table.apply(update)
        assert change is not None
        following.apply(change)
    fresh_table = EndpointTable()
    fresh = Zone(fresh_table, server_address="127.0.0.1")
    change = fresh_table.apply(table.snapshot())
    assert change is not None
    fresh.apply(change)
    for labels in (["s1"], ["tasks", "s2"], ["1", "s3"], ["s"], ["t1-s1", "s1"], ["_tcp", "s1"]):
        for local in (True, False):
            asked = (*labels, "swarm")
            assert NodeView(following, local=local).find(asked) == NodeView(fresh, local=local).find(asked)
