"""Typer commands made from configuration classes: each option is declared once, in the stage's Config.

The options of the thing that a command line chooses (`caption --mllm openai`) are added when the command is made, so
that they are in its help and only they are accepted. Values reach `fclip.config` as text, which alone reads them.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fclip.config import (
    Config,
    ShardConfig,
    alternatives,
    choices,
    chosen_options,
    field_types,
    other_things,
    read_given,
)
from fclip.errors import UsageError

_COMMON = {field.name for field in dataclasses.fields(ShardConfig)}
_METAVARS = {int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT", dict: "JSON"}


def _metavar(annotation: Any) -> str:
    """How the help shows what an option takes."""
    kind = alternatives(annotation)[0]
    if typing.get_origin(kind) is typing.Literal:
        return f"[{'|'.join(map(str, typing.get_args(kind)))}]"
    if typing.get_origin(kind) in (tuple, list):
        return f"{_METAVARS.get(typing.get_args(kind)[0], 'TEXT')},..."
    return _METAVARS.get(kind, "TEXT")


def _flag(field: dataclasses.Field[Any]) -> str:
    return field.metadata.get("flag") or "--" + field.name.replace("_", "-")


def _parameter(field: dataclasses.Field[Any], annotation: Any, panel: str) -> inspect.Parameter:
    name, help = field.name, field.metadata.get("help", "")
    if field.metadata.get("positional"):
        argument = typer.Argument(help=help, show_default=False)
        kind: Any = list[str] | None
        return inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind, argument]
        )
    flag, switch = _flag(field), alternatives(annotation)[0] is bool
    names = (flag, "--verbose") if flag == "-v" else (flag,)
    if switch and field.default is not False:
        names = (f"{flag}/--no-{flag.removeprefix('--')}",)
    shown = "" if field.default in (None, False, (), "") else f" \\[{_show(field.default)}]"
    wanted = typer.Option(
        *names,
        help=help + shown,
        show_default=False,
        rich_help_panel="Common options" if name in _COMMON else panel,
        metavar=None if switch else _metavar(annotation),
    )
    kind = bool | None if switch else str | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, wanted])


def _show(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _unwrap(docstring: str) -> str:
    """A docstring for any terminal width: each paragraph becomes one line; the example keeps its lines."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(p if p.startswith("Example") else " ".join(p.splitlines()) for p in paragraphs)


def make_command(
    name: str,
    cls: type[Config],
    arguments: Sequence[str],
    call: Callable[[dict[str, Any], Path | None], None],
    commands: Sequence[str],
) -> Any:
    """The typer command `name` with the options of `cls`, and those of the things that the command line chooses.

    `call(flags, config_file)` gets what was given. Raises UsageError for a thing that does not exist, and for an
    option that belongs to another thing than the one chosen.
    """
    types = field_types(cls)
    held = {field for field, _, _ in choices(cls)}
    parameters = [_parameter(f, types[f.name], "Options") for f in dataclasses.fields(cls) if f.name not in held]
    if held and arguments:
        given = read_given(_chosen_names(cls, arguments), name, commands, _config_file(arguments), os.environ)
        parameters += _options_of_things(cls, given, {p.name for p in parameters})
    _refuse_others(cls, arguments, parameters)
    file_option = typer.Option(
        "--config", help="TOML file with options; flags win", show_default=False, rich_help_panel="Common options"
    )
    parameters.append(
        inspect.Parameter(
            "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, file_option]
        )
    )
    parameters.sort(key=lambda p: (p.kind, p.name in _COMMON or p.name == "config"))

    def command(**flags: Any) -> None:
        file = flags.pop("config")
        call(flags, file)

    command.__name__ = name.replace("-", "_")
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    help = _unwrap(cls.__doc__ or "").replace("[", "\\[")  # no markup: fclip[mediapipe]
    single = typer.Typer(
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        pretty_exceptions_show_locals=False,
    )
    single.command(name, help=help)(command)
    return typer.main.get_command(single)


def _options_of_things(cls: type[Config], given: Any, taken: set[str]) -> list[inspect.Parameter]:
    """The options of the chosen things, without those that the command has under the same name."""
    parameters: dict[str, inspect.Parameter] = {}
    chooser = {field: choice for field, choice, _ in choices(cls)}
    for held, options in chosen_options(cls, given).items():
        choice = chooser[held]
        kinds = field_types(options)
        for field in dataclasses.fields(options):
            if field.name in taken:
                continue
            chosen = given[choice][0] if choice in given else _default(cls, choice)
            panel = f"Options of --{choice.replace('_', '-')} {chosen}"
            parameters.setdefault(field.name, _parameter(field, kinds[field.name], panel))
    return list(parameters.values())


def _default(cls: type[Config], name: str) -> Any:
    return next(field.default for field in dataclasses.fields(cls) if field.name == name)


def _chosen_names(cls: type[Config], arguments: Sequence[str]) -> dict[str, str]:
    """What a command line gives for the options that choose a thing."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    names = {choice: _value_of(_flag(fields[choice]), arguments) for _, choice, _ in choices(cls)}
    return {choice: name for choice, name in names.items() if name}


def _config_file(arguments: Sequence[str]) -> Path | None:
    file = _value_of("--config", arguments)
    return Path(file) if file else None


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The last value that a command line gives to `flag`; None where it does not."""
    value = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=False):
        if argument == "--":
            break
        if argument == flag:
            value = following
        elif argument.startswith(f"{flag}="):
            value = argument.partition("=")[2]
    return value


def _refuse_others(cls: type[Config], arguments: Sequence[str], parameters: list[inspect.Parameter]) -> None:
    """Raise UsageError for an option of a thing that was not chosen."""
    known = {parameter.name for parameter in parameters}
    flags = {_flag(field) for field in dataclasses.fields(cls)}
    for argument in arguments:
        flag = argument.partition("=")[0]
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        if not flag.startswith("--") or flag in flags or name in known or name in ("config", "help", "verbose"):
            continue
        if things := other_things(cls, name):
            chosen = " ".join(f"--{c.replace('_', '-')} {n}" for c, n in _chosen(cls, arguments).items())
            raise UsageError(f"{flag} is an option of {things}; {chosen} has none of that name")


def _chosen(cls: type[Config], arguments: Sequence[str]) -> Mapping[str, str]:
    defaults = {choice: _default(cls, choice) for _, choice, _ in choices(cls)}
    return {name: value for name, value in (defaults | _chosen_names(cls, arguments)).items() if value}
