"""One page that shows how good a classifier is and where it fails; it needs nothing from outside, not even a script."""

from flowerml.evaluation.report.gallery import Explains, Raws
from flowerml.evaluation.report.page import write
from flowerml.evaluation.report.subject import Subject, of_classifier
from flowerml.pipeline.evaluate import of_pipeline

__all__ = ["Explains", "Raws", "Subject", "of_classifier", "of_pipeline", "write"]
