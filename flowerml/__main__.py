"""`python -m flowerml` is the command `flowerml`."""

from flowerml.cli import main

main()
