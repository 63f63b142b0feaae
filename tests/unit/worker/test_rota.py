from __future__ import annotations

from swarmpy.errors import Code, NotLeaderError, SwarmError
from worker.rota import Rota

GONE = SwarmError(Code.UNAVAILABLE, "gone")
MANAGERS = ("m1", "m2", "m3")


def test_managers_are_tried_in_turn_and_a_breath_is_taken_after_each_round_in_vain() -> None:
    rota = Rota()
    tried, breaths = [], []
    for _ in range(7):
        tried.append(rota.next(MANAGERS))
        breaths.append(rota.ended(GONE, MANAGERS, settled=False))
    assert tried == ["m1", "m2", "m3", "m1", "m2", "m3", "m1"]
    assert breaths == [0, 0, 1, 0, 0, 2, 0]


def test_a_session_that_lasted_begins_the_count_anew() -> None:
    rota = Rota()
    assert [rota.ended(GONE, MANAGERS, settled=settled) for settled in (False, False, True, False, False, False)] == [
        *(0, 0, 0),
        *(0, 0, 1),
    ]


def test_the_leader_that_a_manager_names_comes_next_and_once() -> None:
    rota = Rota()
    assert rota.next(MANAGERS) == "m1"
    rota.ended(NotLeaderError("m9 leads", "m9"), MANAGERS, settled=False)
    assert rota.next(MANAGERS) == "m9"
    rota.ended(GONE, MANAGERS, settled=False)
    assert rota.next(MANAGERS) == "m2"


def test_managers_that_name_each_other_are_not_asked_without_a_breath() -> None:
    rota = Rota()
    breaths = [rota.ended(NotLeaderError("not me", "m1"), ("m1", "m2"), settled=False) for _ in range(4)]
    assert breaths == [0, 1, 0, 2]


def test_whom_a_manager_that_does_not_lead_knows_is_asked_too_until_a_session_lasts() -> None:
    rota = Rota()
    rota.next(MANAGERS)
    rota.ended(NotLeaderError("nobody leads", "", ("m1", "n2", "n3")), MANAGERS, settled=False)
    tried = []
    for _ in range(5):
        tried.append(rota.next(MANAGERS))
        rota.ended(GONE, MANAGERS, settled=False)
    assert tried == ["m2", "m3", "n2", "n3", "m1"]
    rota.ended(GONE, MANAGERS, settled=True)
    assert "n2" not in {rota.next(MANAGERS) for _ in range(6)}
