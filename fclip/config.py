"""Configurations: frozen dataclasses, read from file, environment and flags, with a hash of what the output depends on.

A configuration class lists every option of a command once: its type, default, help text and whether the output
depends on it. The command line, the TOML file, the environment variables and the hash are all made from that list.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fclip.errors import UsageError

ConfigT = TypeVar("ConfigT", bound="Config")


def option(default: Any, help: str, *, output: bool = False, flag: str | None = None, positional: bool = False) -> Any:
    """A dataclass field that is a command-line option.

    `output=True` marks what the output depends on (it enters the configuration hash); `flag` overrides the option's
    name; `positional` makes it a list of arguments.
    """
    metadata = {"help": help, "output": output, "flag": flag, "positional": positional}
    if isinstance(default, list):
        raise TypeError("defaults are immutable: use a tuple")
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """Base of all configurations; subclasses are frozen dataclasses whose fields are made with `option`."""


@dataclass(frozen=True)
class CommonConfig(Config):
    """Options that every command has."""

    root: Path = option(Path("fclip-data"), "workspace folder: <root>/<dataset>/<stage> and <root>/runs")
    dataset: str | None = option(None, "data set in the workspace; may be left out when the root holds one")
    device: str = option("auto", "cpu, cuda, cuda:1 ...; auto = the GPU when there is one")
    seed: int = option(0, "seed of everything random", output=True)
    overwrite: bool = option(False, "replace existing output made with another configuration")
    dry_run: bool = option(False, "print the resolved configuration and stop")
    json: bool = option(False, "print the result as JSON on stdout")
    verbose: bool = option(False, "log more and show tracebacks", flag="-v")


@dataclass(frozen=True)
class ShardConfig(CommonConfig):
    """Options of the stages that turn input shards into output shards."""

    input: Path | None = option(None, "input folder instead of the workspace's", flag="--in")
    out: Path | None = option(None, "output folder instead of the workspace's")
    workers: int = option(0, "worker processes; 0 = one per CPU core")
    limit: int | None = option(None, "only the first N clips, to try things out", output=True)
    shard_index: int = option(0, "process the shards i with i mod num-shards = this (job arrays)")
    num_shards: int = option(1, "number of jobs that share this stage's shards")
    resume: bool = option(True, "verify and keep finished shards")
    max_failed: float = option(0.05, "share of clips that may fail before the stage exits with 1")


def field_types(cls: type[Config]) -> dict[str, Any]:
    """Field name -> resolved type of a configuration class."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def plain_type(annotation: Any) -> tuple[Any, bool]:
    """Split `X | None` into (X, True); any other type gives (type, False)."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        arguments = [a for a in typing.get_args(annotation) if a is not type(None)]
        return arguments[0], True
    return annotation, False


def _parse_text(text: str, kind: Any) -> Any:
    """A value from an environment variable or flag text; ValueError when it is not of that kind."""
    if kind is bool:
        lowered = text.strip().lower()
        if lowered in ("1", "true", "yes", "on"):
            return True
        if lowered in ("0", "false", "no", "off"):
            return False
        raise ValueError(text)
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_parse_text(item.strip(), inner) for item in text.split(",") if item.strip())
    if typing.get_origin(kind) is typing.Literal:
        return text
    return kind(text)


def convert_value(name: str, value: Any, annotation: Any, where: str) -> Any:
    """Convert `value` (text or a TOML value) to the field's type, or raise UsageError naming the place."""
    kind, optional = plain_type(annotation)
    if value is None and optional:
        return None
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else None
    try:
        if typing.get_origin(kind) is tuple and isinstance(value, (list, tuple)):
            inner = typing.get_args(kind)[0]
            result: Any = tuple(inner(item) for item in value)
        elif isinstance(value, str):
            result = _parse_text(value, kind)
        elif kind in (float, str) and isinstance(value, int) and not isinstance(value, bool):
            result = kind(value)
        elif choices is not None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
            result = value
        else:
            raise ValueError(value)
    except (ValueError, TypeError):
        wanted = getattr(kind, "__name__", str(kind))
        raise UsageError(f"{where}: {name} = {value!r} is not a valid {wanted}") from None
    if choices is not None and result not in choices:
        raise UsageError(f"{where}: {name} = {value!r}; choose one of {', '.join(map(str, choices))}")
    return result


def unknown_name(name: str, known: Iterable[str], where: str, what: str = "key") -> UsageError:
    """The error for a name that does not exist, with the close matches among those that do."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"
    return UsageError(f"{where}: unknown {what} {name!r}; {hint}")


def read_config_file(path: Path, cls: type[Config], command: str, commands: Iterable[str]) -> dict[str, Any]:
    """Values for `cls` from a TOML file: top-level keys for every command, table [command] for this one."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such configuration file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    for name in tables:
        if name not in set(commands):
            raise unknown_name(name, commands, str(path), "table")
    values = {key: value for key, value in data.items() if key not in tables} | tables.get(command, {})
    known = field_types(cls)
    result = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            raise unknown_name(key, [k.replace("_", "-") for k in known], f"{path} [{command}]")
        result[name] = convert_value(key, value, known[name], str(path))
    return result


def resolve(
    cls: type[ConfigT],
    flags: Mapping[str, Any],
    *,
    command: str,
    commands: Iterable[str] = (),
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ConfigT:
    """Build a configuration: default < config file < environment (FCLIP_<FIELD>) < flag; None means not given."""
    environment = os.environ if environment is None else environment
    known = field_types(cls)
    values: dict[str, Any] = {}
    if file is not None:
        values.update(read_config_file(file, cls, command, commands))
    for name, annotation in known.items():
        variable = f"FCLIP_{name.upper()}"
        if environment.get(variable):
            values[name] = convert_value(name, environment[variable], annotation, variable)
    for name, value in flags.items():
        if value is not None and value != () and value != []:
            values[name] = convert_value(name, value, known[name], f"--{name.replace('_', '-')}")
    return cls(**values)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value always gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not a configuration value")


def config_dict(config: Config, *, output_only: bool = False) -> dict[str, Any]:
    """The configuration as plain JSON values; with `output_only`, just what the output depends on."""
    values = {
        f.name: getattr(config, f.name)
        for f in dataclasses.fields(config)
        if f.metadata.get("output") or not output_only
    }
    return json.loads(canonical_json(values))


def hash_of(value: Any) -> str:
    """sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Field-by-field differences of two nested dictionaries as `name: old -> new` lines."""
    lines: list[str] = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {json.dumps(a)} -> {json.dumps(b)}")
    return lines
