"""`python -m flowerml.cli` is the command `flowerml`."""

from flowerml.cli import main

main()
