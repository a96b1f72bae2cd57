"""Records in JSON files with a schema: frozen dataclasses that are checked, field by field, when they are read.

A file from an earlier or later fclip may lack fields that have a default, and have more than the dataclass knows;
everything else that does not fit is an error that names the file, the field and what was expected.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Union, get_args, get_origin

from fclip.errors import FclipError, UsageError
from fclip.files import read_json, write_json

if TYPE_CHECKING:
    JsonValue = Union[None, bool, int, float, str, Sequence["JsonValue"], Mapping[str, "JsonValue"]]  # noqa: UP007
else:

    class JsonValue:
        """Any JSON value (typing.get_type_hints cannot resolve a type that refers to itself)."""


JsonObject = dict[str, JsonValue]
T = TypeVar("T")


def read_record(path: str | Path, cls: type[T]) -> T:
    """The record in a JSON file; FclipError in one line if the file is missing, damaged or of another kind."""
    return parse_record(read_json(path), cls, str(path))


def write_record(path: str | Path, record: object) -> None:
    """Write a record, atomically, as readable JSON."""
    write_json(path, as_json(record))


def as_json(value: object) -> JsonValue:
    """A record, or anything that is made of records and plain values, as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def plain_fields(record: object) -> JsonObject:
    """The fields of a record {name: JSON value}."""
    return {name: as_json(value) for name, value in vars(record).items()}


def parse_options(pairs: Iterable[str]) -> JsonObject:
    """`name=value` pairs of --set as JSON values (true, 0.5, [1,2], text); UsageError for one without "="."""
    options: JsonObject = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: write it as name=value")
        try:
            options[name.strip().replace("-", "_")] = json.loads(text)
        except (ValueError, RecursionError):
            options[name.strip().replace("-", "_")] = text
    return options


def parse_record(value: object, cls: type[T], where: str) -> T:
    """A dataclass from a JSON object; `where` names the file, and the line if need be, in the error."""
    if not isinstance(value, Mapping):
        raise FclipError(f"{where}: not a JSON object; {_AGAIN}")
    given, kinds = {}, _types(cls)  # type: ignore[arg-type]
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in value:
            try:
                given[field.name] = _convert(value[field.name], kinds[field.name], f"{where}: {field.name}")
            except RecursionError:
                raise FclipError(f"{where}: {field.name} is nested too deep; {_AGAIN}") from None
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise FclipError(f"{where}: lacks {field.name}; {_AGAIN}")
    return cls(**given)


_AGAIN = "the file is damaged or of another kind, make it again"


@functools.cache
def _types(cls: type) -> dict[str, object]:
    return typing.get_type_hints(cls)


def _convert(value: object, kind: object, where: str) -> object:
    """`value` as the type that a field is annotated with; FclipError where it does not fit."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is JsonValue:
        return _convert(value, _ANY_JSON.get(type(value), type(value)), where)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return parse_record(value, kind, where)
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_convert(v, k, f"{where}[{i}]") for i, (v, k) in enumerate(zip(value, kinds, strict=True)))
    if origin is list and isinstance(value, list):
        return [_convert(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {_text(name, where): _convert(item, arguments[1], f"{where}.{name}") for name, item in value.items()}
    if origin is typing.Literal and value in arguments:
        return value
    return _plain(value, kind, where)


_ANY_JSON: dict[type, object] = {list: list[JsonValue], dict: dict[str, JsonValue]}


def _convert_union(value: object, kinds: tuple[object, ...], where: str) -> object:
    """The first of several types that fits; the error is that of the last one beside None."""
    errors = []
    for kind in kinds:
        try:
            return _convert(value, kind, where)
        except FclipError as error:
            errors.append(error)
    raise next((e for e, kind in zip(reversed(errors), reversed(kinds), strict=True) if kind is not types.NoneType))


def _plain(value: object, kind: object, where: str) -> object:
    if kind in (None, types.NoneType) and value is None:
        return None
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value):
        return float(value)
    if kind is str and isinstance(value, str):
        return _text(value, where)
    name = getattr(kind, "__name__", str(kind))
    raise FclipError(f"{where}: {_shown(value)} is not a valid {name}; {_AGAIN}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _text(value: str, where: str) -> str:
    """The text; FclipError for half a surrogate pair, which JSON can hold and no file or screen can show."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FclipError(f"{where}: {_shown(value)} is not a valid text; {_AGAIN}") from None
    return value


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
