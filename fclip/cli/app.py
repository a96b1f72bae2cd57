"""The `fclip` command: one subcommand a stage, made from its Config; errors become one line and an exit code."""

from __future__ import annotations

import ast
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from fclip import __version__
from fclip.cli.options import make_command
from fclip.config import Config, choosers, config_dict, field_types, resolve, unknown_name
from fclip.errors import EXIT_FAILED, FclipError, UsageError, one_line
from fclip.interrupts import EXIT_INTERRUPTED, interruptible, was_interrupted
from fclip.runner.report import StageReport
from fclip.runner.workspace import place_options

# Order of the pipeline; each module has Config (options; its docstring is the help), run(config) -> StageReport.
COMMANDS = {
    "synth": "fclip.stages.synth",
    "preprocess": "fclip.stages.preprocess",
    "face-analyze": "fclip.stages.face_analyze",
    "caption": "fclip.stages.caption",
    "refine": "fclip.stages.refine",
    "pack": "fclip.stages.pack",
    "train": "fclip.stages.train",
    "eval": "fclip.stages.evaluate",
    "zeroshot": "fclip.stages.zeroshot",
    "predict": "fclip.stages.predict",
    "report": "fclip.stages.report",
    "inspect": "fclip.stages.inspect",
    "convert": "fclip.stages.convert",
    "fetch": "fclip.cli.fetch",
    "doctor": "fclip.cli.doctor",
}


# What usually follows; the first step of all is `synth`, or `preprocess` of one's own clips.
NEXT = {
    "synth": "preprocess",
    "preprocess": "face-analyze",
    "face-analyze": "caption",
    "caption": "refine",
    "refine": "pack",
    "pack": "train",
    "train": "eval",
    "eval": "report",
    "zeroshot": "report",
}

_WRONG_USE: Any = typer.BadParameter.__base__  # typer's usage error has no public name of its own


class StageGroup(TyperGroup):
    """The group of all stages, each of whose commands is made when it is asked for, to fit its command line."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order of the pipeline."""
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The commands with the first sentence of what each does; no command is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(module)) for name, module in COMMANDS.items()])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, as its help without a choice shows it; None if there is none."""
        return _make(cmd_name, []) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that a command line names, with the options of the things that it chooses."""
        try:
            if args[0] not in COMMANDS:
                raise unknown_name(args[0], COMMANDS, "fclip", "command")
            return args[0], _make(args[0], args[1:]), args[1:]
        except FclipError as error:
            typer.echo(f"fclip {args[0]}: {error}" if args[0] in COMMANDS else str(error), err=True)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=StageGroup,
    name="fclip",
    help="Dynamic facial expression recognition with vision-language models.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # rich alone takes longer to import than this help may take
)


def _summary(module: str) -> str:
    """The first sentence of the docstring of a command's Config, read without importing the module."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    config = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    return " ".join((ast.get_docstring(config) or "").split("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fclip {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="print the version"),
) -> None:
    """Dynamic facial expression recognition with vision-language models."""


def _log_to_stderr(verbose: bool, quiet: bool) -> None:
    """Show fclip's warnings; with `verbose` its notes too, and what the libraries log; with `quiet` nothing of that."""
    handler = logging.StreamHandler(sys.stderr)
    if not verbose:
        handler.addFilter(logging.Filter("fclip"))
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its own handler logs every retry
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # read by tqdm when it is imported, here and in worker processes
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=level, handlers=[handler], format="fclip: %(message)s")


def _run(command: str, module: Any, flags: dict[str, Any], file: Path | None) -> None:
    """Resolve the configuration, run the stage and print its report; every error ends as one line."""
    verbose = bool(flags.get("verbose"))
    quiet = bool(flags.get("quiet"))
    _log_to_stderr(verbose, quiet)
    try:
        with interruptible():
            config = resolve(
                module.Config, flags, command=command, commands=COMMANDS, file=file, elsewhere=_all_option_names
            )
            if config.dry_run:
                shown = {"command": command, "config": config_dict(config), **config.derived()}
                typer.echo(json.dumps(shown, indent=1))
                return
            of_stage = getattr(module, "listing", None)
            if (listing := _listing(command, config) or (of_stage and of_stage(config))) is not None:
                typer.echo(json.dumps(listing.as_dict(), indent=1) if config.json else "\n".join(listing.lines))
                return
            report = module.run(config)
            code = report.exit_code
            if config.json:
                typer.echo(json.dumps(report.as_dict(), indent=1))
            elif not quiet:
                typer.echo(report.as_text())
                if command in NEXT and report.out and not code:
                    typer.echo(f"next: fclip {NEXT[command]}{place_options(config, report.out)}")
            elif code:
                typer.echo("\n".join(f"fclip {command}: {line}" for line in report.lines), err=True)
    except BrokenPipeError:
        os._exit(EXIT_FAILED)
    except (Exception, KeyboardInterrupt) as error:
        if verbose:
            logging.exception("traceback")
        message, code = _explain(error)
        typer.echo(f"fclip {command}: {one_line(message)}", err=True)
    if code:
        raise typer.Exit(code)


def parse(arguments: Sequence[str]) -> Config:
    """The configuration of a command line without the word fclip, as the command itself would have it; UsageError."""
    if not arguments or arguments[0] not in COMMANDS:
        raise unknown_name(arguments[0] if arguments else "", COMMANDS, "fclip", "command")
    name, found = arguments[0], list[Config]()
    module = importlib.import_module(COMMANDS[name])

    def keep(flags: dict[str, Any], file: Path | None) -> None:
        found.append(
            resolve(module.Config, flags, command=name, commands=COMMANDS, file=file, elsewhere=_all_option_names)
        )

    command = make_command(name, module.Config, arguments[1:], keep, list(COMMANDS))
    try:
        command.main(list(arguments[1:]), standalone_mode=False)
    except _WRONG_USE as error:
        raise UsageError(f"fclip {name}: {error.format_message()}") from None
    if not found:
        raise UsageError(f"fclip {' '.join(arguments)}: shows help and does nothing; leave that option out")
    return found[0]


def _explain(error: BaseException) -> tuple[str, int]:
    """What to tell the user about an exception, and the exit code."""
    if isinstance(error, KeyboardInterrupt) or was_interrupted():
        return "interrupted; run the same command again to go on", EXIT_INTERRUPTED
    if isinstance(error, FclipError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return str(error), EXIT_FAILED
    if isinstance(error, MemoryError):
        return "out of memory; try fewer --workers, smaller batches or --limit", EXIT_FAILED
    first = str(error).strip().splitlines()[:1]
    return f"{type(error).__name__}: {''.join(first)} (a defect of fclip; -v shows where)", EXIT_FAILED


def _listing(command: str, config: Config) -> StageReport | None:
    """What there is to choose from, where the option that chooses says "list"."""
    for choice, registry in choosers(type(config)).items():
        if getattr(config, choice) == "list":
            rows = registry.table()
            width = max(len(row["name"]) for row in rows)
            lines = [f"{row['name']:{width}}  {row['state']:14}  {row['needs']}" for row in rows]
            return StageReport(command, values={choice: rows}, lines=lines)
    return None


def _all_option_names() -> Iterator[str]:
    """The names of the options of all commands and of everything that can be chosen in one."""
    for path in COMMANDS.values():
        cls = importlib.import_module(path).Config
        yield from field_types(cls)
        for registry in choosers(cls).values():
            for names in registry.all_options().values():
                yield from names


def _make(name: str, arguments: Sequence[str]) -> Any:
    module = importlib.import_module(COMMANDS[name])

    def call(flags: dict[str, Any], file: Path | None) -> None:
        _run(name, module, flags, file)

    return make_command(name, module.Config, arguments, call, list(COMMANDS))
