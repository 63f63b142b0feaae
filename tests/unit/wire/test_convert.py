"""The wire is the model: every struct has its message, every field its twin, and nothing is lost on the way."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

import msgspec
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmpy.api.v1 import types_pb2
from swarmpy.model import cluster, endpoints, network, node, service, spec, states, task
from swarmpy.model.base import Model
from swarmpy.wire.convert import from_proto, to_proto

MODULES = (cluster, endpoints, network, node, service, spec, task)
LOCAL_ONLY = {"Model", "EndpointsUpdate", "Backend", "Neighbour", "ServiceEndpoint", "ServiceNetwork"}
STRUCTS = [
    value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Model) and value.__module__ == module.__name__
    if name not in LOCAL_ONLY
]
ENUMS = [
    value
    for module in (states, endpoints)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, enum.IntEnum) and value.__module__ == module.__name__
]
NAMESPACE = {name: value for module in MODULES for name, value in vars(module).items()}


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda s: s.__name__)
def test_every_field_has_a_twin(struct: type[Model]) -> None:
    descriptor = getattr(types_pb2, struct.__name__).DESCRIPTOR
    assert [f.name for f in descriptor.fields] == [f.name for f in msgspec.structs.fields(struct)] or {
        f.name for f in descriptor.fields
    } == {f.name for f in msgspec.structs.fields(struct)}


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda s: s.__name__)
def test_a_default_that_is_not_zero_has_explicit_presence(struct: type[Model]) -> None:
    """Otherwise zero, which the wire leaves out, would come back as the default."""
    descriptor = getattr(types_pb2, struct.__name__).DESCRIPTOR
    for field in msgspec.structs.fields(struct):
        wire: FieldDescriptor = descriptor.fields_by_name[field.name]
        if wire.is_repeated or wire.message_type is not None or field.default is msgspec.NODEFAULT:
            continue
        if field.default is None or field.default:
            assert wire.has_presence, f"{struct.__name__}.{field.name}"


@pytest.mark.parametrize("kind", ENUMS, ids=lambda e: e.__name__)
def test_enumerations_have_the_same_members_and_numbers(kind: type[enum.IntEnum]) -> None:
    wire = getattr(types_pb2, kind.__name__).items()
    assert sorted(number for _, number in wire) == sorted(m.value for m in kind)
    for member in kind:
        assert any(name.endswith(f"_{member.name}") and number == member.value for name, number in wire)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of one annotation."""
    if typing.get_origin(hint) is types.UnionType:
        return st.one_of(*(st.none() if arg is type(None) else values(arg) for arg in typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        return st.lists(values(typing.get_args(hint)[0]), max_size=2).map(tuple)
    if typing.get_origin(hint) is dict:
        key, value = typing.get_args(hint)
        return st.dictionaries(values(key), values(value), max_size=2)
    if issubclass(hint, Model):
        return structs(hint)
    if issubclass(hint, enum.Enum):
        return st.sampled_from(list(hint))
    if hint is int:
        return st.integers(-(2**63), 2**63 - 1)
    if hint is float:
        return st.floats(allow_nan=False)
    return {str: st.text(st.characters(exclude_categories=["Cs"]), max_size=5), bool: st.booleans()}[hint]


def structs(kind: type[Model]) -> st.SearchStrategy[Model]:
    hints = typing.get_type_hints(kind, NAMESPACE)
    return st.builds(kind, **{f.name: values(hints[f.name]) for f in msgspec.structs.fields(kind)})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
@pytest.mark.parametrize(
    "kind", [task.Task, task.TaskStatus, spec.ServiceSpec, node.Node, cluster.Cluster, network.Network], ids=str
)
def test_nothing_is_lost_on_the_way(kind: type[Model], data: st.DataObject) -> None:
    struct = data.draw(structs(kind))
    message = to_proto(struct)
    again = type(message).FromString(message.SerializeToString())
    assert from_proto(again, kind) == struct


def test_an_unknown_enumeration_number_is_refused() -> None:
    with pytest.raises(ValueError, match="enum value 9999"):
        from_proto(types_pb2.Task(id="a", state=9999), task.Task)  # type: ignore[arg-type]  # that is the point
