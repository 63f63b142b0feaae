"""Generic conversion between a struct of the model and the protobuf message of the same name.

Fields agree by name (a test compares all of them), so both ways go through plain data, dictionaries of fields, which
msgspec and protobuf each read and write natively; no conversion is written by hand. Both ways cost only the fields
that differ from their defaults.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from swarmpy.api.v1 import types_pb2
from swarmpy.model.base import Model

S = TypeVar("S", bound=Model)

Fields = dict[str, Any]
Reader = Callable[[Message], Fields]
Part = Callable[[Any], Any]


def to_proto(struct: Model) -> Message:
    """Return the message of the struct's own name, its fields set where they differ from the default."""
    return _message_type(type(struct))(**msgspec.to_builtins(struct, builtin_types=(bytes,)))


def fill(message: Message, struct: Model) -> None:
    """Set in `message` what `struct` holds beyond its defaults."""
    message.MergeFrom(to_proto(struct))


def from_proto(message: Message, struct_type: type[S]) -> S:
    """Return the struct that `message` stands for; absent fields take the struct's defaults.

    A field that this version does not know was dropped by protobuf; a number outside an enumeration
    raises ValueError, which the RPC boundary reports as an invalid argument.
    """
    return msgspec.convert(_reader(struct_type)(message), struct_type)


def _message_type(struct_type: type[Model]) -> type[Message]:
    found = getattr(types_pb2, struct_type.__name__, None)
    if found is None:
        from swarmpy.api.v1 import containers_pb2, images_pb2, volumes_pb2  # for who talks about one node only

        found = next(
            message
            for module in (containers_pb2, images_pb2, volumes_pb2)
            if (message := getattr(module, struct_type.__name__, None)) is not None
        )
    return typing.cast("type[Message]", found)


@cache
def _reader(struct_type: type[Model]) -> Reader:
    """Return what gives a message's fields as plain data; those without a default are always there.

    The wire leaves zeros out, so an absent field that has no default was zero.
    """
    wires = typing.cast("dict[str, FieldDescriptor]", _message_type(struct_type).DESCRIPTOR.fields_by_name)
    zeros: Fields = {}
    parts: dict[int, tuple[str, Part | None]] = {}
    for field in msgspec.structs.fields(struct_type):
        wire = wires[field.name]
        parts[wire.number] = (field.name, _part(wire, field.type))
        if field.required:
            zeros[field.name] = wire.default_value if wire.message_type is None else {}

    def read(message: Message) -> Fields:
        fields = zeros.copy()
        for wire, value in message.ListFields():
            # A number is cheaper to look up than a name, which protobuf makes anew.
            name, part = parts[wire.number]
            fields[name] = value if part is None else part(value)
        return fields

    return read


def _part(wire: FieldDescriptor, hint: Any) -> Part | None:
    """Return what makes plain data of a field's value; None for a scalar, which is plain data."""
    if wire.message_type is None:
        return _copy if wire.is_repeated else None
    if typing.get_origin(hint) is dict:
        return dict
    (struct_type,) = (arg for arg in (hint, *typing.get_args(hint)) if _is_struct(arg))
    read = _reader(struct_type)
    if wire.is_repeated:
        return lambda values: [read(value) for value in values]
    return read


def _copy(values: Any) -> Any:
    return values[:]  # twice as fast as list(values)


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Model)
