"""flowerml: from a folder of pictures or a pile of texts to a served classifier, tracked and reproducible."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier

__all__ = ["Classifier"]


def __getattr__(name: str) -> object:
    # The stages import this package too, and most of them never predict.
    if name == "Classifier":
        from flowerml.classifier.classifier import Classifier

        return Classifier
    raise AttributeError(f"module 'flowerml' has no attribute {name!r}")
