"""The command line: `flowerml train`, `predict`, `evaluate` and the others, and the command line of a stage."""

import sys


def main() -> None:
    """Run the command in sys.argv and exit: 0 for success, 1 for an error, 2 for wrong usage."""
    try:
        from flowerml.cli.app import app
    except ModuleNotFoundError as error:
        sys.exit(f"error: the command line needs {error.name}; install it with: pip install 'flowerml[train]'")
    app(prog_name="flowerml")
