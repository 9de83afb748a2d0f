"""Reproducing a registered version in a clean copy of the project, and comparing the result with what was recorded."""

from flowerml.registry.reproduce.clean_copy import clean_copy
from flowerml.registry.reproduce.comparison import Comparison, compare
from flowerml.registry.reproduce.recorded import Recorded, load_recorded, lost_changes, origin, remarks
from flowerml.registry.reproduce.rerun import OnStage, run

__all__ = [
    "Comparison",
    "OnStage",
    "Recorded",
    "clean_copy",
    "compare",
    "load_recorded",
    "lost_changes",
    "origin",
    "remarks",
    "run",
]
