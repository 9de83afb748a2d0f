"""The command line: `flowerml train`, `predict`, `evaluate`, `models`, `info` and `web`."""

import sys


def main() -> None:
    """Run the command in sys.argv and exit: 0 for well done, 1 for what failed, 2 for a command that makes no sense."""
    try:
        from flowerml.cli.app import app
    except ModuleNotFoundError as error:
        sys.exit(f"error: the command line needs {error.name}; install it with: pip install 'flowerml[train]'")
    app(prog_name="flowerml")
