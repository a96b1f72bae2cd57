"""The command line: typer only, one thin module a command."""
