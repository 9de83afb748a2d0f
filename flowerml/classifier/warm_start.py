"""Starting a training from a saved classifier: its encoder stays, its network's weights are trained further."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.saved import WEIGHTS, check_weights, read_assets
from flowerml.core import files
from flowerml.core.display import one_line, printable
from flowerml.core.errors import ModelError
from flowerml.tasks.base import Encoder
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from torch import Tensor

FROZEN, NETWORK = "frozen.", "network."  # prefixes of weights in a saved graph


@dataclass(frozen=True)
class WarmStart:
    """A saved classifier to continue training from; `parameters` are those of encode and train, by dotted names."""

    folder: Path
    kind: str
    classes: tuple[str, ...]
    names: Mapping[str, str]
    parameters: Mapping[str, Any]
    encoder: Encoder[Any, Any, Any]
    weights: "Mapping[str, Tensor]"

    @classmethod
    def load(cls, folder: Path) -> "WarmStart":
        """Return the warm start from a saved classifier; raises ModelError where it cannot be trained further."""
        return files.read_version(folder, lambda: cls._load(folder))

    @classmethod
    def _load(cls, folder: Path) -> "WarmStart":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        saved = Classifier.load(folder).description
        parameters = {
            name: value for name, value in saved["parameters"].items() if name.startswith(("encode.", "train."))
        }
        if not TASKS[saved["task"]].continues(saved["encoder"], parameters):
            raise ModelError(
                f"{folder}: its network is fitted in one step, not to be continued; train a new one on all data"
            )
        combined = saved["trained"].get("ensemble", {})
        if combined.get("by") == "probabilities":
            raise ModelError(
                f"{folder}: it is an ensemble of {len(combined['members'])} networks, which cannot be trained further; "
                "start from a single one, trained with train.ensemble 1 or as a soup"
            )
        check_weights(folder, saved)
        try:
            tensors = load_file(folder / WEIGHTS)
            _check_finite(tensors)
            encoder = _encoder(saved, _part(tensors, FROZEN), read_assets(folder, saved))
        except ModelError as error:
            raise ModelError(f"{folder}: {error}") from None
        # A header may name shapes and types that torch lacks; `load_state_dict` raises RuntimeError.
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
            raise ModelError(
                f"{folder}: the weights cannot be read ({printable(one_line(error), 200)}); copy the whole folder again"
            ) from None
        return cls(
            folder=folder,
            kind=saved["task"],
            classes=tuple(saved["classes"]),
            names=saved["names"],
            parameters=parameters,
            encoder=encoder,
            weights=_part(tensors, NETWORK),
        )

    def check(self, classes: tuple[str, ...]) -> None:
        """Raise ModelError unless the classes to train on are the saved ones."""
        if classes == self.classes:
            return
        new, missing = sorted(set(classes) - set(self.classes)), sorted(set(self.classes) - set(classes))
        parts = [f"{word} {', '.join(labels[:5])}" for word, labels in (("new:", new), ("missing:", missing)) if labels]
        raise ModelError(
            f"{self.folder}: expected the same {len(self.classes)} classes to train further; those of the data differ "
            f"({'; '.join(parts)}); train a new classifier without --from"
        )


def _check_finite(tensors: "Mapping[str, Tensor]") -> None:
    for name, tensor in tensors.items():
        if not bool(tensor.float().isfinite().all()):
            raise ModelError(
                f"{printable(name, 60)} in {WEIGHTS} is not finite; copy the whole folder again, or train a new one"
            )


def _encoder(
    saved: Mapping[str, Any], frozen: "Mapping[str, Tensor]", assets: Mapping[str, bytes]
) -> Encoder[Any, Any, Any]:
    """Return the encoder with all that training needs, loaded from a temporary folder in its own format."""
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(prefix="flowerml-") as folder:
        files.write_json(Path(folder, "encoder.json"), saved["encoder"])
        for name, content in assets.items():
            Path(folder, name).write_bytes(content)
        if frozen:
            save_file(dict(frozen), Path(folder, "frozen.safetensors"))
        return TASKS[saved["task"]].Encoder.load(Path(folder))


def _part(tensors: "Mapping[str, Tensor]", prefix: str) -> "dict[str, Tensor]":
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
