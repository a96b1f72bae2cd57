"""The `fclip` command: from the first moment on, Ctrl-C ends it with exit code 130 and without a traceback."""

from fclip.interrupts import leave_at_once


def main() -> None:
    """Entry point of the console script and of `python -m fclip`."""
    leave_at_once()
    from fclip.cli.app import app  # with all that it imports: the better part of a second

    app()


if __name__ == "__main__":
    main()
