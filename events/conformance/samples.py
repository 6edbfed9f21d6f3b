"""One event of every type, in which every field has a value. They are made from the schemas, not recorded."""

from typing import Any

import msgspec
from msgspec import inspect

from canhazgpu.events.envelope import TYPES, Event
from canhazgpu.events.schemas import data_of

TIME = "2026-11-25T09:46:40.000Z"
BEGAN_MS = 1_795_600_000_000
# What a consumer must pass on unchanged.
TEXT = 'Zoë "line\nbreak" \\ 🚀 </script>'


def events(source: str) -> list[Event]:
    """Return an event of each type, in the order of the list of types."""
    return [
        Event(
            id=f"{BEGAN_MS}-{number}",
            source=source,
            type=name,
            subject=f"sample/{number}",
            time=TIME,
            data={**msgspec.json.decode(msgspec.json.encode(sample(data_of(name)))), "later_version": TEXT},
        )
        for number, name in enumerate(TYPES, 1)
    ]


def sample(kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Return a struct in which every field has a value."""
    about = inspect.type_info(kind)
    assert isinstance(about, inspect.StructType)  # noqa: S101 - for the type checker
    return msgspec.convert({field.encode_name: _value(field.type) for field in about.fields}, kind)


def _value(kind: inspect.Type) -> Any:  # noqa: PLR0911 - one line for each kind
    match kind:
        case inspect.UnionType():
            return _value(next(one for one in kind.types if not isinstance(one, inspect.NoneType)))
        case inspect.StructType():
            return {field.encode_name: _value(field.type) for field in kind.fields}
        case inspect.VarTupleType() | inspect.ListType():
            return [_value(kind.item_type)]
        case inspect.DictType():
            return {_value(kind.key_type): _value(kind.value_type)}
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 2**53 - 1  # The greatest whole number that every JSON library keeps.
        case inspect.FloatType():
            return 0.5
        case _:
            return TEXT
