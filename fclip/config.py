"""Configurations: frozen dataclasses, read from file, environment and flags, with a hash of what the output depends on.

A configuration class lists every option of a command once: its type, default, help text and whether the output
depends on it. The command line, the TOML file, the environment variables and the hash are all made from that list.
Where an option chooses a thing of a registry (a captioner, a face back end), that thing's own Options join the list.
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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from fclip.errors import UsageError

ConfigT = TypeVar("ConfigT", bound="Config")


def option(
    default: Any,
    help: str,
    *,
    output: bool | Literal["given"] = False,
    flag: str | None = None,
    positional: bool = False,
    registry: Registry | None = None,
) -> Any:
    """A dataclass field that is a command-line option.

    `output=True` marks what the output depends on (it enters the configuration hash), "given" the same of an option
    that came later (at its default it does not enter, so that older folders keep their hash); `flag` overrides the
    option's name; `positional` makes it a list of arguments; `registry`: the option names a thing of it (or "none").
    """
    metadata = {"help": help, "output": output, "flag": flag, "positional": positional, "registry": registry}
    if isinstance(default, list):
        raise TypeError("defaults are immutable: use a tuple")
    return dataclasses.field(default=default, metadata=metadata)


def options_of(name: str, *, output: bool = True) -> Any:
    """A field that holds the options of the thing that the option `name` chooses: an instance of its Options.

    On the command line, in files and in the environment they stand beside the command's own options; what is given
    for one of the same name holds for both. `output`: whether those that the output depends on are hashed here.
    """
    return dataclasses.field(default=None, metadata={"options_of": name, "output": output})


class Registry(Protocol):
    """What a configuration asks of a registry (fclip.registry)."""

    @property
    def kind(self) -> str: ...

    def check(self, name: str) -> None: ...

    def options(self, name: str) -> type: ...

    def weights(self, name: str) -> str: ...

    def all_options(self) -> dict[str, list[str]]: ...

    def table(self) -> list[dict[str, str]]: ...


@dataclass(frozen=True)
class NoOptions:
    """A thing without options."""


@dataclass(frozen=True)
class Config:
    """Base of all configurations; subclasses are frozen dataclasses whose fields are made with `option`."""

    def __post_init__(self) -> None:
        for choice, registry in choosers(type(self)).items():
            if (name := getattr(self, choice)) not in (None, "none", "list"):
                registry.check(name)
        for field, choice, registry in choices(type(self)):
            wanted = _options_class(registry, getattr(self, choice))
            given = getattr(self, field)
            if given is None or isinstance(given, Mapping):
                name = f"{registry.kind} {getattr(self, choice)}"
                object.__setattr__(self, field, build_options(wanted, given or {}, name))
            elif not isinstance(given, wanted):
                raise UsageError(f"{field}: these are not the options of {registry.kind} {getattr(self, choice)!r}")

    def weights(self) -> list[str]:
        """The weights (names of fclip.catalogue) that these options ask for; those whose file is given are not."""
        given = {choice for field, choice, _ in choices(type(self)) if getattr(getattr(self, field), "weights", None)}
        chosen = {c: r for c, r in choosers(type(self)).items() if c not in given}
        names = {choice: getattr(self, choice) for choice in chosen}
        return [w for c, name in names.items() if name not in (None, "none", "list") and (w := chosen[c].weights(name))]

    def derived(self) -> dict[str, Any]:
        """What follows from these options and is worth showing beside them with --dry-run, as JSON values."""
        return {}


def choosers(cls: type[Config]) -> dict[str, Registry]:
    """The options that choose a thing, and the registry that it is in."""
    return {f.name: f.metadata["registry"] for f in dataclasses.fields(cls) if f.metadata.get("registry")}


def choices(cls: type[Config]) -> list[tuple[str, str, Registry]]:
    """(field that holds a thing's options, option that chooses the thing, its registry) of a configuration class."""
    registries = choosers(cls)
    held = {
        field.name: field.metadata["options_of"] for field in dataclasses.fields(cls) if "options_of" in field.metadata
    }
    return [(name, choice, registries[choice]) for name, choice in held.items()]


def _options_class(registry: Registry, name: str | None) -> type:
    """The Options of the thing of that name; for None, "none" (no thing) and "list" (show them) NoOptions."""
    return NoOptions if name in (None, "none", "list") else registry.options(str(name))


@dataclass(frozen=True)
class CommonConfig(Config):
    """Options that every command has."""

    root: Path = option(Path("fclip-data"), "workspace folder: <root>/<dataset>/<stage> and <root>/runs")
    dataset: str | None = option(None, "data set in the workspace; may be left out when the root holds one")
    device: str = option("auto", "cpu, cuda, cuda:1 ...; auto = the GPU when there is one")
    overwrite: bool = option(False, "replace existing output made with another configuration")
    dry_run: bool = option(False, "print the resolved configuration and stop")
    json: bool = option(False, "print the result as JSON on stdout")
    quiet: bool = option(False, "print errors only (and the result with --json); no notes, no progress")
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


def loader_processes(workers: int) -> int:
    """Processes beside this one that load clips, of --workers: 0 = one per CPU core, 1 = this process alone."""
    count = workers or os.cpu_count() or 1
    return count if count > 1 else 0


def field_types(cls: type) -> dict[str, Any]:
    """Field name -> resolved type of a dataclass."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types of a union without None, in order; of any other type itself."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return tuple(a for a in typing.get_args(annotation) if a is not type(None))
    return (annotation,)


def type_name(annotation: Any) -> str:
    """A type for a message or a help text: "float", "list[float]", "one of none, both"."""
    kinds = alternatives(annotation)
    if len(kinds) > 1:
        return " or ".join(map(type_name, kinds))
    if typing.get_origin(kinds[0]) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(kinds[0])))}"
    return str(kinds[0]) if typing.get_args(kinds[0]) else str(kinds[0].__name__)


def convert_value(name: str, value: Any, annotation: Any, where: str, *, text: bool = True) -> Any:
    """`value` as the type of a field, or UsageError naming the place.

    With `text` a string is read as what it stands for (flags, environment, TOML); else only a str is given as one.
    """
    if alternatives(annotation) != (annotation,) and (value is None or (text and value == "null")):
        return None
    for kind in alternatives(annotation):
        try:
            return _as_kind(value, kind, text)
        except (ValueError, TypeError):
            continue
    kind = alternatives(annotation)[0]
    if typing.get_origin(kind) is typing.Literal:
        raise UsageError(f"{where}: {name} = {value!r}; choose {type_name(kind)}")
    raise UsageError(f"{where}: {name} = {value!r} is not a valid {type_name(annotation)}")


_WORDS = {**dict.fromkeys(("1", "true", "yes", "on"), True), **dict.fromkeys(("0", "false", "no", "off"), False)}


def _as_kind(value: Any, kind: Any, text: bool) -> Any:
    """`value` as one type; ValueError or TypeError where it is not of that type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    read = text and isinstance(value, str)
    if origin is typing.Literal:
        found = [choice for choice in arguments if value == choice or (read and value == str(choice))]
        return found[0] if found else _refuse(value)
    if origin in (tuple, list):
        items = [item.strip() for item in value.strip("[]").split(",") if item.strip()] if read else value
        if isinstance(items, (list, tuple)):
            return origin(_as_kind(item, arguments[0], text) for item in items)
    elif kind is dict or origin is dict:
        value = json.loads(value) if read else value
        if isinstance(value, Mapping):
            return dict(value)
    elif kind is bool:
        value = _WORDS.get(value.strip().lower()) if read else value
        if isinstance(value, bool):
            return value
    elif kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    elif kind is str and isinstance(value, Path):
        return str(value)
    elif isinstance(value, kind) and not isinstance(value, bool):
        return value
    elif read or (isinstance(value, int) and not isinstance(value, bool) and (kind is float or (kind is str and text))):
        return kind(value)
    return _refuse(value)


def _refuse(value: Any) -> Any:
    raise ValueError(value)


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of the known names that `name` may have been meant to be."""
    return difflib.get_close_matches(name, list(known), n=3)


def unknown_name(name: str, known: Iterable[str], where: str, what: str = "key") -> UsageError:
    """The error for a name that does not exist, with the close matches among those that do."""
    known = list(known)
    close = close_names(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(known) or 'none'}"
    return UsageError(f"{where}: unknown {what} {name!r}; {hint}")


OptionsT = TypeVar("OptionsT")


def build_options(cls: type[OptionsT], values: Mapping[str, Any], where: str, *, text: bool = False) -> OptionsT:
    """An instance of an Options dataclass; UsageError for a name that it has not, or a value of another type."""
    known = field_types(cls)
    for name in values:
        if name not in known:
            raise unknown_name(name, known, where, "option")
    return cls(**{name: convert_value(name, value, known[name], where, text=text) for name, value in values.items()})


# --- from file, environment and flags ---------------------------------------------------------------------------------

OTHER_VARIABLES = {"CACHE", "MODELS", "WEIGHTS", "SAMPLES", "PARITY", "REAL_FACES"}  # FCLIP_...: folders, no options
Given = dict[str, tuple[Any, str]]  # name of an option -> its value, and where it was given


def read_config_file(path: Path, command: str, commands: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of a TOML file: (those at the top, for every command; those in this command's table)."""
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
    top = {key.replace("-", "_"): value for key, value in data.items() if key not in tables}
    return top, {key.replace("-", "_"): value for key, value in tables.get(command, {}).items()}


def read_given(
    flags: Mapping[str, Any], command: str, commands: Iterable[str], file: Path | None, environment: Mapping[str, str]
) -> Given:
    """What was given, and where: config file < environment (FCLIP_<NAME>) < flag; None and () mean not given."""
    given: Given = {}
    if file is not None:
        top, table = read_config_file(file, command, commands)
        given |= {name: (value, str(file)) for name, value in (top | table).items()}
    for variable, value in environment.items():
        name = variable.removeprefix("FCLIP_")
        if name != variable and value and name not in OTHER_VARIABLES:
            given[name.lower()] = (value, variable)
    given |= {n: (v, f"--{n.replace('_', '-')}") for n, v in flags.items() if v is not None and v not in ((), [])}
    return given


def chosen_options(cls: type[Config], given: Given) -> dict[str, type]:
    """Field that holds a thing's options -> the Options of the thing that was chosen; UsageError for a wrong name."""
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(cls)}
    return {
        field: _options_class(registry, given[choice][0] if choice in given else defaults[choice])
        for field, choice, registry in choices(cls)
    }


def resolve(
    cls: type[ConfigT],
    flags: Mapping[str, Any],
    *,
    command: str,
    commands: Iterable[str] = (),
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    elsewhere: Callable[[], Iterable[str]] = tuple,
) -> ConfigT:
    """Build a configuration: default < config file < environment (FCLIP_<FIELD>) < flag; None means not given.

    `elsewhere` names the options of all commands, which a file and the environment may hold too.
    """
    given = read_given(flags, command, commands, file, os.environ if environment is None else environment)
    own = {name: kind for name, kind in field_types(cls).items() if name not in {f for f, _, _ in choices(cls)}}
    values = {n: convert_value(n, given[n][0], kind, given[n][1]) for n, kind in own.items() if n in given}
    used = set(own)
    for field, options in chosen_options(cls, given).items():
        known = field_types(options)
        used |= known.keys()
        values[field] = options(
            **{n: convert_value(n, given[n][0], kind, given[n][1]) for n, kind in known.items() if n in given}
        )
    for name in given.keys() - used:
        _check_unused(cls, name, given[name][1], used, elsewhere)
    return cls(**values)


def other_things(cls: type[Config], name: str) -> str:
    """Which things that a command could have chosen have an option of this name, as text; "" for none."""
    found = [
        f"{registry.kind} {', '.join(things[:3])}{' ...' if len(things) > 3 else ''}"
        for _, _, registry in choices(cls)
        if (things := [thing for thing, options in registry.all_options().items() if name in options])
    ]
    return " and ".join(found)


def _check_unused(
    cls: type[Config], name: str, where: str, used: Iterable[str], elsewhere: Callable[[], Iterable[str]]
) -> None:
    """Raise UsageError for what was given and is no option here, unless it is one of another thing or command.

    A flag must be one here. A variable that is like no option at all may be somebody else's.
    """
    things = other_things(cls, name)
    if where.startswith("--"):
        raise UsageError(f"{where} is an option of {things}" if things else f"{where}: no such option")
    known = {*used, *elsewhere()}
    if things or name in known:
        return
    if not where.startswith("FCLIP_"):
        raise unknown_name(name, [each.replace("_", "-") for each in sorted(known)], where)
    if close := close_names(name, known):
        raise UsageError(f"{where}: no such option; did you mean {' or '.join(f'FCLIP_{n.upper()}' for n in close)}?")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value always gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not a configuration value")


def config_dict(config: Any, *, output_only: bool = False) -> dict[str, Any]:
    """A configuration, or a thing's options, as plain JSON values; with `output_only`, what the output depends on.

    A field that was not made with `option` counts as one that the output depends on.
    """
    values = {
        f.name: getattr(config, f.name)
        for f in dataclasses.fields(config)
        if not output_only or _counts(f, getattr(config, f.name))
    }
    nested = {n: config_dict(v, output_only=output_only) for n, v in values.items() if dataclasses.is_dataclass(v)}
    plain: dict[str, Any] = json.loads(canonical_json(values | nested))
    return plain


def _counts(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field's value enters the hash of the output."""
    kind = field.metadata.get("output", True)
    return value != field.default if kind == "given" else bool(kind)


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
