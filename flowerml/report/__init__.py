"""One page that shows how good a classifier is and where it fails; it needs nothing from outside, not even a script."""

from flowerml.report.page import write
from flowerml.report.shown import Explains, Raws
from flowerml.report.subject import Subject, of_classifier
from flowerml.report.whole import of_pipeline

__all__ = ["Explains", "Raws", "Subject", "of_classifier", "of_pipeline", "write"]
