"""One page that shows how good a classifier is and where it fails; it loads nothing, not even a script."""

from flowerml.evaluation.report.gallery import Explains, Raws
from flowerml.evaluation.report.page import write
from flowerml.evaluation.report.subject import Subject

__all__ = ["Explains", "Raws", "Subject", "write"]
