"""Generic conversion between a struct of the model and the protobuf message of the same name.

Fields agree by name (a test compares all of them), so one converter per struct is made once from its fields
and kept; no conversion is written by hand. Both ways cost only the fields that differ from their defaults.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeVar

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from swarmpy.api.v1 import types_pb2
from swarmpy.model.base import Model

S = TypeVar("S", bound=Model)

Setter = Callable[[Message, Any], None]
Getter = Callable[[Any], Any]


def to_proto(struct: Model) -> Message:
    """Return the message of the struct's own name, its fields set where they differ from the default."""
    message = _message_type(type(struct))()
    fill(message, struct)
    return message


def fill(message: Message, struct: Model) -> None:
    """Set in `message` what `struct` holds beyond its defaults."""
    for name, default, setter in _setters(type(struct)):
        value = getattr(struct, name)
        if value is not default and value != default:
            setter(message, value)


def from_proto(message: Message, struct_type: type[S]) -> S:
    """Return the struct that `message` stands for; absent fields take the struct's defaults.

    A field that this version does not know was dropped by protobuf; a number outside an enumeration
    raises ValueError, which the RPC boundary reports as an invalid argument.
    """
    getters = _getters(struct_type)
    fields = _required(struct_type).copy()
    for wire, value in message.ListFields():
        getter = getters.get(wire.name)
        if getter is not None:
            fields[wire.name] = getter(value)
    return struct_type(**fields)


def to_protos(structs: Iterable[Model]) -> list[Message]:
    return [to_proto(s) for s in structs]


def _message_type(struct_type: type[Model]) -> type[Message]:
    return typing.cast("type[Message]", getattr(types_pb2, struct_type.__name__))


@cache
def _setters(struct_type: type[Model]) -> tuple[tuple[str, Any, Setter], ...]:
    """Return `(field, value that need not be sent, setter)` for each field.

    An explicit-presence field is sent unless it has the struct's default; None of it is never sent. For the
    others the wire's zero and the struct's default are the same value, or this raises at first use.
    """
    descriptor = _message_type(struct_type).DESCRIPTOR
    rows = []
    for field in msgspec.structs.fields(struct_type):
        wire = typing.cast(FieldDescriptor, descriptor.fields_by_name[field.name])
        default = _default(field)
        rows.append((field.name, default, _setter(field.name, wire)))
    return tuple(rows)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return msgspec.NODEFAULT


def _setter(name: str, wire: FieldDescriptor) -> Setter:
    message_type = wire.message_type
    if message_type is not None and message_type.GetOptions().map_entry:
        return lambda message, value: getattr(message, name).update(value)
    if wire.is_repeated:
        if message_type is None:
            return lambda message, value: getattr(message, name).extend(value)

        def extend(message: Message, value: Iterable[Model]) -> None:
            add = getattr(message, name).add
            for item in value:
                fill(add(), item)

        return extend
    if message_type is not None:

        def nested(message: Message, value: Model) -> None:
            inner = getattr(message, name)
            inner.SetInParent()
            fill(inner, value)

        return nested
    return lambda message, value: setattr(message, name, value)


@cache
def _required(struct_type: type[Model]) -> dict[str, Any]:
    """Return zeros for the fields that have no default: the wire leaves their zeros out."""
    hints = typing.get_type_hints(struct_type, _namespace())
    required = [f.name for f in msgspec.structs.fields(struct_type) if f.required]
    return {name: hints[name](0) if issubclass(hints[name], enum.Enum) else hints[name]() for name in required}


@cache
def _getters(struct_type: type[Model]) -> dict[str, Getter]:
    hints = typing.get_type_hints(struct_type, _namespace())
    return {f.name: _getter(hints[f.name]) for f in msgspec.structs.fields(struct_type)}


def _getter(hint: Any) -> Getter:
    if typing.get_origin(hint) is types.UnionType:
        (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
    origin = typing.get_origin(hint)
    if origin is dict:
        return dict
    if origin is tuple:
        item = typing.get_args(hint)[0]
        if not _is_struct(item):
            return tuple
        return lambda values: tuple(from_proto(v, item) for v in values)
    if _is_struct(hint):
        return lambda value: from_proto(value, hint)
    return typing.cast(Getter, hint)


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Model)


@cache
def _namespace() -> dict[str, Any]:
    """Return every name that annotations of the model use: an heir's annotations may be of another module."""
    from swarmpy.model import cluster, endpoints, node, service, spec, task

    modules = (endpoints, spec, service, task, node, cluster)
    return {name: value for module in modules for name, value in vars(module).items()}
