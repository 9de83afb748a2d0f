"""What every stage's command line has in common."""

import argparse
import sys
from collections.abc import Callable

from flowerml.errors import FlowermlError


def run(main: Callable[[str], None]) -> None:
    """Call `main` with the pipeline named on the command line.

    A FlowermlError becomes one line (one for each thing wrong) and exit code 1, Ctrl-C exit code 130; anything else
    is a bug and keeps its stack trace.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("pipeline", help="one of the names under `pipelines:` in params.yaml")
    arguments = parser.parse_args()
    try:
        main(arguments.pipeline)
    except FlowermlError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
