"""The `fclip` command: one subcommand a stage, made from its Config; errors become one line and an exit code."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import typer

from fclip import __version__
from fclip.cli.options import add_command
from fclip.config import config_dict, resolve
from fclip.errors import EXIT_FAILED, EXIT_INTERRUPTED, FclipError

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
}

app = typer.Typer(
    name="fclip",
    help="Dynamic facial expression recognition with vision-language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fclip {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="print the version"),
) -> None:
    """Dynamic facial expression recognition with vision-language models."""


def _log_to_stderr(verbose: bool) -> None:
    """Show fclip's warnings; with `verbose` its notes too, and what the libraries log."""
    handler = logging.StreamHandler(sys.stderr)
    if not verbose:
        handler.addFilter(logging.Filter("fclip"))
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its own handler logs every retry
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, handlers=[handler], format="fclip: %(message)s")


def _run(command: str, module: Any, flags: dict[str, Any], file: Path | None) -> None:
    """Resolve the configuration, run the stage and print its report; every FclipError ends as one line."""
    verbose = bool(flags.get("verbose"))
    _log_to_stderr(verbose)
    try:
        config = resolve(module.Config, flags, command=command, commands=COMMANDS, file=file)
        if config.dry_run:
            typer.echo(json.dumps({"command": command, "config": config_dict(config)}, indent=1))
            return
        report = module.run(config)
        typer.echo(json.dumps(report.as_dict(), indent=1) if config.json else report.as_text())
        code = report.exit_code
    except FclipError as error:
        if verbose:
            logging.exception("traceback")
        typer.echo(f"fclip {command}: {error}", err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        typer.echo(f"fclip {command}: interrupted; run the same command again to go on", err=True)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        os._exit(EXIT_FAILED)
    except OSError as error:
        if verbose:
            logging.exception("traceback")
        typer.echo(f"fclip {command}: {error}", err=True)
        code = EXIT_FAILED
    except Exception as error:
        if verbose:
            raise
        first = str(error).splitlines()[0] if str(error) else ""
        typer.echo(f"fclip {command}: {type(error).__name__}: {first} (a defect of fclip; -v shows where)", err=True)
        code = EXIT_FAILED
    if code:
        raise typer.Exit(code)


def _add_commands() -> None:
    for name, path in COMMANDS.items():
        module = importlib.import_module(path)

        def call(flags: dict[str, Any], file: Path | None, name: str = name, module: Any = module) -> None:
            _run(name, module, flags, file)

        add_command(app, name, module.Config, module.Config.__doc__ or "", call)


_add_commands()


def main() -> None:
    """Entry point of the console script."""
    app()
