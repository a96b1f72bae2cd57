"""Typer commands made from configuration classes: each option is declared once, in the stage's Config."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fclip.config import Config, ShardConfig, field_types, plain_type

_COMMON = {field.name for field in dataclasses.fields(ShardConfig)}


def _option_type(annotation: Any) -> Any:
    """The type typer should parse: lists are read as comma-separated text, everything may be left out (None)."""
    kind, _ = plain_type(annotation)
    if typing.get_origin(kind) is tuple:
        kind = str
    return kind | None if kind is not None else None


def _parameter(field: dataclasses.Field[Any], annotation: Any) -> inspect.Parameter:
    name, meta = field.name, field.metadata
    if meta["positional"]:
        argument = typer.Argument(help=meta["help"], show_default=False)
        kind: Any = list[str] | None
        return inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind, argument]
        )
    flag = meta["flag"] or "--" + name.replace("_", "-")
    kind, _ = plain_type(annotation)
    if kind is bool and field.default is True:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    names = (flag, "--verbose") if flag == "-v" else (flag,)
    shown = "" if field.default in (None, False, (), "") else f" \\[{_show(field.default)}]"
    panel = "Common options" if name in _COMMON else "Options"
    wanted = typer.Option(*names, help=meta["help"] + shown, show_default=False, rich_help_panel=panel)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[_option_type(annotation), wanted]
    )


def _show(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _unwrap(docstring: str) -> str:
    """A docstring for any terminal width: each paragraph becomes one line; the example keeps its lines."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(p if p.startswith("Example") else " ".join(p.splitlines()) for p in paragraphs)


def add_command(
    app: typer.Typer, name: str, cls: type[Config], help: str, call: Callable[[dict[str, Any], Path | None], None]
) -> None:
    """Add command `name` with the options of `cls` to `app`; `call(flags, config_file)` gets what was given."""
    types = field_types(cls)
    parameters = [_parameter(field, types[field.name]) for field in dataclasses.fields(cls)]
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
    command.__doc__ = help = _unwrap(help)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, help=help.replace("[", "\\["))(command)  # no markup: fclip[mediapipe]
