"""The `fclip` command: from the first moment on, Ctrl-C ends it with exit code 130 and without a traceback."""

import os

from fclip.interrupts import leave_at_once, no_longer


def main() -> None:
    """Entry point of the console script and of `python -m fclip`."""
    leave_at_once()
    from fclip.cli.app import app  # with all that it imports: the better part of a second

    try:
        app()
    except OSError as error:  # help or a version that nobody can read: the disk is full, the pipe is closed
        os.write(2, f"fclip: {error.strerror}\n".encode())
        os._exit(1)
    finally:
        no_longer()


if __name__ == "__main__":
    main()
