"""Run `python -m flowerml.cli` as the command `flowerml`."""

from flowerml.cli import main

main()
