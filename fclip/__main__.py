"""`python -m fclip` is the `fclip` command."""

from fclip.cli.app import main

if __name__ == "__main__":
    main()
