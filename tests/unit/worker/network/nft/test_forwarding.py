from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.netfilter import FakeNetfilter
from worker.network.nft.batch import Base, Batch, Hook
from worker.network.nft.dump import rules
from worker.network.nft.expressions import Outcome, Verdict
from worker.network.nft.forwarding import Forwarding
from worker.network.nft.legacy import LegacyTables

MARK = "swarmpy_abcdef012345"
# Answers as the program does from a file of rules, which it changes.
PROGRAM = """#!/bin/sh
[ "$1" = --version ] && { echo "iptables v1.8.9 (KIND)"; exit; }
shift 2
echo "$@" >> CALLS
case "$1" in
    -S) cat RULES;;
    -I) echo "-A FORWARD $(shift 3; echo "$@")" >> RULES;;
    -D) shift; grep -vxF -e "-A $*" RULES > RULES.new; mv RULES.new RULES;;
    *) echo "what is $1?" >&2; exit 2;;
esac
"""


class Program:
    """A program of the older tables."""

    def __init__(self, folder: Path, kind: str = "legacy") -> None:
        self.path, self.rules, self.calls = folder / "iptables", folder / "rules", folder / "calls"
        self.in_use = folder / "names"
        text = PROGRAM.replace("KIND", kind).replace("CALLS", str(self.calls)).replace("RULES", str(self.rules))
        self.path.write_text(text)
        self.path.chmod(0o755)
        self.rules.write_text("-P FORWARD DROP\n-A FORWARD -i lo -j ACCEPT\n-A FORWARD -j DOCKER-USER\n")
        self.in_use.write_text("nat\nfilter\n")

    def tables(self) -> LegacyTables:
        return LegacyTables([[str(self.path.with_name("missing"))], [str(self.path)]], self.in_use)


def none(folder: Path) -> LegacyTables:
    return LegacyTables([], folder / "none")


def with_filter(kernel: FakeNetfilter, *, jump: bool) -> None:
    batch = Batch()
    batch.add_table("filter")
    batch.add_chain("filter", "DOCKER-USER")
    batch.add_chain("filter", "FORWARD", Base("filter", Hook.FORWARD, 0))
    batch.add_rule("filter", "FORWARD", Verdict(Outcome.RETURN))
    if jump:
        batch.add_rule("filter", "FORWARD", Verdict(Outcome.JUMP, "DOCKER-USER"))
    kernel.commit(batch)


def marks(kernel: FakeNetfilter) -> list[str]:
    return [rule.comment or ",".join(rule.goes_to) for rule in rules(kernel, "filter", "FORWARD")]


@pytest.mark.parametrize("jump", [True, False])
def test_rules_come_after_docker_s_jump_or_first(kernel: FakeNetfilter, tmp_path: Path, jump: bool) -> None:
    with_filter(kernel, jump=jump)
    forwarding = Forwarding(kernel, "abcdef012345", "sp", legacy=none(tmp_path))
    before = marks(kernel)
    for _ in range(2):
        assert forwarding.ensure() == ()
        assert marks(kernel) == (["", "DOCKER-USER", MARK, MARK] if jump else [MARK, MARK, ""])
    other = Forwarding(kernel, "012345abcdef", "sp012345", legacy=none(tmp_path))
    other.ensure()
    forwarding.remove()
    assert set(marks(kernel)) - set(before) == {"swarmpy_012345abcdef"}
    other.remove()
    other.remove()
    assert marks(kernel) == before


def test_without_a_filter_there_is_nothing_to_do(kernel: FakeNetfilter, tmp_path: Path) -> None:
    forwarding = Forwarding(kernel, "abcdef012345", "sp", legacy=none(tmp_path))
    assert forwarding.ensure() == ()
    forwarding.remove()
    assert kernel.batches == []


def test_older_tables_get_theirs_by_the_program(tmp_path: Path) -> None:
    program = Program(tmp_path)
    before = program.rules.read_text()
    for _ in range(2):
        assert program.tables().ensure(MARK, "sp") == ()
    rule = f"sp+ -m comment --comment {MARK} -j ACCEPT"
    assert program.rules.read_text() == f"{before}-A FORWARD -o {rule}\n-A FORWARD -i {rule}\n"
    assert f"-I FORWARD 3 -o {rule}" in program.calls.read_text()
    for _ in range(2):
        program.tables().remove(MARK)
    assert program.rules.read_text() == before


def test_one_of_two_is_no_reason_to_have_three(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.tables().ensure(MARK, "sp")
    program.rules.write_text("".join(program.rules.read_text().splitlines(keepends=True)[:-1]))
    program.tables().ensure(MARK, "sp")
    assert program.rules.read_text().count(MARK) == 2


@pytest.mark.parametrize("names", ["", "nat\n"])
def test_older_tables_that_are_not_in_use_are_left_alone(tmp_path: Path, names: str) -> None:
    program = Program(tmp_path)
    program.in_use.write_text(names)
    assert program.tables().ensure(MARK, "sp") == ()
    program.tables().remove(MARK)
    assert not program.calls.exists()


def test_a_program_for_the_newer_tables_is_none_for_the_older(tmp_path: Path) -> None:
    program = Program(tmp_path, kind="nf_tables")
    (said,) = program.tables().ensure(MARK, "sp")
    assert "install iptables" in said
    program.tables().remove(MARK)
    assert not program.calls.exists()


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.path.write_text(program.path.read_text().replace("-S) cat", "-X) cat"))
    with pytest.raises(
        SwarmError, match=f"{os.fsencode(program.path).decode()} -w 5 -S FORWARD failed: .*what is -S"
    ) as failed:
        program.tables().ensure(MARK, "sp")
    assert failed.value.code == Code.FAILED_PRECONDITION
