from __future__ import annotations

from swarmpy.model.endpoints import EndpointsUpdate
from tests.support.dataplane import port, service, task
from worker.dataplane.endpoints import Change, EndpointTable


def table(*updates: EndpointsUpdate) -> EndpointTable:
    made = EndpointTable()
    for update in updates:
        assert made.apply(update) is not None
    return made


WEB = EndpointsUpdate(
    revision=5,
    services=(service("web", vip=1), service("db", vip=2)),
    backends=(task("t2", "web", slot=2), task("t1", "web", slot=1), task("d1", "db")),
)


def test_backends_are_in_the_order_of_slots() -> None:
    made = table(WEB)
    assert [b.task_id for b in made.ready("web")] == ["t1", "t2"]
    assert made.ready("nothing") == ()


def test_a_change_names_what_it_touched_and_nothing_else() -> None:
    made = table(WEB)
    change = made.apply(
        EndpointsUpdate(revision=6, removed_backends=("t1",), backends=(task("t3", "web", slot=1), task("d1", "db")))
    )
    assert change == Change(changed=frozenset({"web"}), withdrawn=frozenset({"t1"}), added=frozenset({"t3"}))
    assert [b.task_id for b in made.ready("web")] == ["t3", "t2"]


def test_a_backend_that_only_differs_neither_leaves_nor_comes() -> None:
    made = table(WEB)
    change = made.apply(EndpointsUpdate(revision=6, backends=(task("t1", "web", (80, 40001)),)))
    assert change == Change(changed=frozenset({"web"}))


def test_removing_a_service_withdraws_its_backends() -> None:
    made = table(WEB)
    change = made.apply(EndpointsUpdate(revision=6, removed_services=("web",)))
    assert change == Change(removed=frozenset({"web"}), withdrawn=frozenset({"t1", "t2"}))
    assert made.ready("web") == ()
    assert set(made.services) == {"db"}


def test_a_service_replaced_in_one_update_is_changed_and_not_removed() -> None:
    made = table(WEB)
    change = made.apply(
        EndpointsUpdate(revision=6, removed_services=("db",), services=(service("db", port("5432"), vip=2),))
    )
    assert change == Change(changed=frozenset({"db"}), redefined=frozenset({"db"}), withdrawn=frozenset({"d1"}))


def test_a_complete_update_replaces_all() -> None:
    made = table(WEB)
    change = made.apply(
        EndpointsUpdate(
            revision=3,
            complete=True,
            services=(service("web", vip=1), service("new", vip=9)),
            backends=(task("t1", "web", slot=1), task("t9", "web", slot=9)),
        )
    )
    assert change == Change(
        changed=frozenset({"web", "new"}),
        redefined=frozenset({"new"}),
        removed=frozenset({"db"}),
        withdrawn=frozenset({"t2", "d1"}),
        added=frozenset({"t9"}),
    )
    assert made.revision == 3


def test_an_older_update_is_not_applied() -> None:
    made = table(WEB)
    assert made.apply(EndpointsUpdate(revision=4, removed_services=("web",))) is None
    assert made.revision == 5
    assert set(made.services) == {"web", "db"}


def test_the_same_update_again_changes_nothing() -> None:
    made = table(WEB)
    change = made.apply(WEB)
    assert change == Change()
    assert not change


def test_a_snapshot_makes_the_same_table() -> None:
    made = table(WEB)
    again = table(made.snapshot())
    assert again.snapshot() == made.snapshot()
    assert again.ready("web") == made.ready("web")
