"""Laws of containers' specs: they can be written down, hold what was asked, and give no more than the node has."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from swarmpy.model.kernel import ALL, CAPABILITIES
from swarmpy.model.spec import ContainerSpec, Resources, TaskSpec
from tests.support.oci import ImageValues
from worker.oci.capabilities import DEFAULT_CAPABILITIES, chosen
from worker.oci.command import INIT_TARGET, argv, environment
from worker.oci.facts import Abilities, Bind, Bundle, Memory
from worker.oci.mounts import mounts
from worker.oci.seccomp import profile
from worker.oci.spec import build_spec
from worker.oci.users import Accounts, User, resolve

words = st.lists(st.text(min_size=1, max_size=8), max_size=3).map(tuple)
some = words.filter(bool)
capability = st.sampled_from((ALL, *CAPABILITIES))
paths = st.lists(st.sampled_from(("a", "b", "..", ".", "")), min_size=1, max_size=4).map(lambda p: "/" + "/".join(p))
wanted = st.lists(st.one_of(st.builds(Bind, st.just("/src"), paths), st.builds(Memory, paths)), max_size=6)


@given(some, words, words, words, st.booleans())
def test_the_program_is_that_of_the_service_or_of_the_image(
    entrypoint: tuple[str, ...], cmd: tuple[str, ...], command: tuple[str, ...], args: tuple[str, ...], init: bool
) -> None:
    made = argv(ContainerSpec(command=command, args=args, init=init), ImageValues(entrypoint=entrypoint, cmd=cmd))
    if init:
        assert made[:2] == (INIT_TARGET, "--")
        made = made[2:]
    assert made[: len(command or entrypoint)] == (command or entrypoint)
    rest = made[len(command or entrypoint) :]
    assert rest == (args or (() if command else cmd))


@given(st.lists(capability, max_size=5), st.lists(capability, max_size=5), st.frozensets(st.sampled_from(CAPABILITIES)))
def test_capabilities(add: list[str], drop: list[str], extra: frozenset[str]) -> None:
    available = extra | (set(add) - {ALL})
    given_ = chosen(add, drop, frozenset(available))
    assert set(given_) <= available
    assert set(add) - {ALL} <= set(given_)  # what is added is there, whatever is dropped
    assert not set(given_) & set(drop) - set(add)
    assert list(given_) == [name for name in CAPABILITIES if name in given_]
    if not add and not drop:
        assert set(given_) == DEFAULT_CAPABILITIES & available


@given(st.frozensets(st.sampled_from(CAPABILITIES)), st.sampled_from(CAPABILITIES))
def test_a_capability_more_allows_no_call_less(held: frozenset[str], more: str) -> None:
    assert allowed(held) <= allowed(held | {more})


def allowed(held: frozenset[str]) -> set[str]:
    made = profile("x86_64", held)
    assert made is not None
    return {name for rule in made["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}


@given(wanted)
def test_mounts_lie_on_each_other_in_order(binds: list[Bind | Memory]) -> None:
    made = mounts(binds)
    targets = [mount["destination"] for mount in made]
    assert len(set(targets)) == len(targets)
    depths = [0 if target == "/" else target.count("/") for target in targets]
    assert depths == sorted(depths)
    assert all(target.startswith("/") and ".." not in target.split("/") for target in targets)


env = st.dictionaries(st.text("ABC_", min_size=1, max_size=3), st.text(max_size=5), max_size=4)


@given(env, env, env)
def test_the_last_word_on_a_variable_wins(theirs: dict[str, str], ours: dict[str, str], last: dict[str, str]) -> None:
    image = ImageValues(env=tuple(f"{name}={value}" for name, value in theirs.items()))
    made = environment(image, ours, last.items())
    assert {name: made[name] for name in (*theirs, *ours, *last)} == {**theirs, **ours, **last}
    assert "PATH" in made


@given(
    st.builds(ContainerSpec, command=some, tty=st.booleans(), read_only=st.booleans(), sysctls=env),
    st.builds(
        Resources, nano_cpus=st.integers(0, 10**11), memory_bytes=st.integers(0, 1 << 40), pids=st.integers(0, 99)
    ),
    st.booleans(),
    st.booleans(),
)
def test_every_spec_can_be_written_down(
    container: ContainerSpec, limits: Resources, unified: bool, privileged: bool
) -> None:
    bundle = Bundle(hostname="h", user=User(), env={"A": "b"}, netns="/n", cgroup="/g", privileged=privileged)
    spec: dict[str, Any] = build_spec(
        TaskSpec(container=container, limits=limits),
        ImageValues(),
        bundle,
        Abilities(arch="x86_64", unified=unified),
    )
    assert json.loads(json.dumps(spec)) == spec
    kinds = {namespace["type"] for namespace in spec["linux"]["namespaces"]}
    assert kinds >= {"mount", "pid", "ipc", "uts", "network"}
    assert ("cgroup" in kinds) == unified
    assert ("seccomp" in spec["linux"]) != privileged


@given(st.text("ab:0\n,x", max_size=40), st.text("ab:0\n,x", max_size=40), st.integers(0, 2**31 - 1))
def test_no_image_spoils_a_number(passwd: str, group: str, uid: int) -> None:
    found = resolve(f"{uid}:{uid}", (), Accounts(passwd, group))
    assert found.groups[0] == found.gid
