"""Rank pretrained backbones on labelled data by a linear probe: the head that `flowerml train` would put on each.

What was measured is kept, and so are the encodings, which `flowerml train --backbone` reuses.
"""

import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowerml.config.paths import Paths
from flowerml.config.pipeline import Pipeline
from flowerml.core import files, fingerprint
from flowerml.core.errors import FlowermlError, ModelError
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Examples
from flowerml.evaluation.comparison import Difference, difference
from flowerml.evaluation.intervals import Interval, wilson_interval
from flowerml.pipeline import encode
from flowerml.tasks import registry
from flowerml.tasks.records import Backbone
from flowerml.tasks.registry import task_of

if TYPE_CHECKING:
    from flowerml.config.params import Section, Train

RANKING = "ranking"  # in the work folder: tables and encodings of rankings, apart from those of trainings
NAME_LENGTH = 80  # of a backbone's name in that of a file
TIMED = 24  # pictures
WARM = 4  # of these are not timed
PACKAGES = ("flowerml", "numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Measured:
    """A backbone on one data set: what its head does on the validation split, and what it costs on this machine.

    `hits` has 1 or 0 for each validation example. `parameters` and `bytes` are those of the backbone, `milliseconds`
    those of one input on one core, from its bytes to its features.
    """

    name: str
    weights: str
    source: str
    hits: str
    features: int
    parameters: int
    bytes: int
    milliseconds: float

    @property
    def accuracy(self) -> Interval:
        """Return the accuracy on the validation split, with 95 % limits."""
        return wilson_interval(self.hits.count("1"), len(self.hits))

    def ahead_of(self, other: "Measured") -> Difference:
        """Return by how much it is more accurate than another backbone on the same validation examples."""
        ours, theirs = (np.array([[int(hit) for hit in side.hits]]) for side in (self, other))
        return difference(ours, theirs, pseudo_examples=0.5)


@dataclass(frozen=True)
class Failed:
    """A backbone that could not be measured, and why, in one line."""

    backbone: Backbone
    message: str


def candidates(pipeline: Pipeline, wanted: Iterable[str]) -> list[Backbone]:
    """Return the backbones of these names, or those that are here; raises ModelError where there are none."""
    names = list(dict.fromkeys(wanted))
    task = task_of(pipeline)
    known = list(task.backbones(published=bool(names)))
    if not known:
        raise ModelError(
            f"backbones of pictures are ranked, and {pipeline.data.source} is of kind {pipeline.kind}; name an encoder "
            "of texts with `flowerml train --backbone hf/OWNER/NAME`"
        )
    if not names:
        return known
    by_name = {backbone.name: backbone for backbone in reversed(known)}  # the first weights of a network count
    return [by_name.get(name) or Backbone(name, "imagenet", "published") for name in names]


def rank(
    pipeline: Pipeline, backbones: Iterable[Backbone], *, on_start: Callable[[Backbone], None]
) -> Iterator[Measured | Failed]:
    """Yield what each backbone does on the extracted examples of the pipeline; what is known is not measured again.

    Downloads weights that are not here. A killed ranking continues where it was.
    """
    digest = Examples(pipeline.paths.examples).digest("train", "valid")
    for backbone in backbones:
        on_start(backbone)
        try:
            yield _measured(pipeline, backbone, digest)
        except FlowermlError as error:
            yield Failed(backbone, str(error))


def offer(pipeline: Pipeline) -> None:
    """Put the encodings of a ranking where `encode` looks for former ones, unless it has some of this backbone.

    Rows that do not fit are encoded anew, as `encode` checks each.
    """
    parameters, paths = pipeline.parameters(), pipeline.paths
    name, weights = parameters.get("encode.backbone"), parameters.get("encode.weights")
    if not isinstance(name, str) or _encoded_by(paths) == name:
        return
    ranked = Paths(pipeline.name, pipeline.root / RANKING).encoded.parent
    encodings = place_of(ranked, name, str(weights)).with_suffix(".arrow")
    if encodings.exists():
        with files.replacing(paths.encoded) as temporary:
            if encodings.is_dir():
                shutil.copytree(encodings, temporary)
            else:
                shutil.copyfile(encodings, temporary)


def _encoded_by(paths: Paths) -> object:
    """Return the backbone of the encodings that are there, None where it is not known."""
    try:
        return files.read_json(paths.encoder / "encoder.json").get("backbone")
    except (OSError, ValueError, AttributeError):
        return None


def _measured(pipeline: Pipeline, backbone: Backbone, digest: str) -> Measured:
    place = _place(pipeline, backbone)
    changed = {"encode.backbone": backbone.name, "encode.weights": backbone.weights}
    section, probe = _section(pipeline, backbone), _probe(pipeline.train)
    facts = {
        "examples": digest,
        "encode": section.model_dump(),
        "train": probe.model_dump(),
        "file": backbone.file_bytes,
        "processors": os.cpu_count(),
        **changed,
    }
    key = fingerprint.of(facts, packages=PACKAGES, code=(Path(registry.__file__).parent / pipeline.kind,))
    if (known := _known(place.with_suffix(".json"), key)) is not None:
        return known
    examples, task = Examples(pipeline.paths.examples), task_of(pipeline)
    encoder = task.Encoder.fit(examples.of("train"), section, pipeline.data.limits)
    place.parent.mkdir(parents=True, exist_ok=True)
    encode.encode(place.with_suffix(".arrow"), examples, encoder, section)
    encoded = Encoded.read(place.with_suffix(".arrow"))
    weights = encoder.frozen.state_dict().values()
    measured = Measured(
        backbone.name,
        backbone.weights,
        backbone.source if backbone.is_here else "cache",
        hits=_hits(pipeline, encoded, encoder, probe),
        features=encoder.features,
        parameters=sum(weight.numel() for weight in encoder.frozen.parameters()),
        bytes=sum(weight.numel() * weight.element_size() for weight in weights),
        milliseconds=_milliseconds(encoder, examples, section),
    )
    files.write_json(place.with_suffix(".json"), {"key": key, **asdict(measured)})
    return measured


def _section(pipeline: Pipeline, backbone: Backbone) -> "Section":
    """Return the section to encode with: the backbone frozen, and one plain view of each example."""
    changed = {"backbone": backbone.name, "weights": backbone.weights, "trainable_blocks": 0, "cache": None, "views": 1}
    return type(pipeline.encode).model_validate({**pipeline.encode.model_dump(), **changed})


def _probe(section: "Train") -> "Train":
    """Return the section of a linear head, trained as heads alone are."""
    head = section.head_alone()
    assert head is not None, "tasks with backbones have heads"
    return head.with_values({"hidden_units": []})


def _hits(pipeline: Pipeline, encoded: Encoded, encoder: Any, section: "Train") -> str:
    """Return which validation examples the trained probe classifies correctly, as ones and zeros."""
    task, threads = task_of(pipeline), torch.get_num_threads()
    data = task.training_data(encoded, encoded.classes, encoder)
    torch.set_num_threads(task.suggested_threads(data, section) or threads)
    try:
        network, training = task.build_network(data, section)
        for _ in training:
            pass
        hits = task.predict_valid(data, network).argmax(dim=1) == task.valid_targets(data)
    finally:
        torch.set_num_threads(threads)
    return "".join(str(int(hit)) for hit in hits)


def _milliseconds(encoder: Any, examples: Examples, section: "Section") -> float:
    """Return the time from an example's bytes to its features on one core, the median of some."""
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for example in islice(examples.of("valid"), TIMED):
            start = time.perf_counter()
            list(encoder.encode([example], section))
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1000 * float(np.median(times[WARM:] or times))


def _known(path: Path, key: str) -> Measured | None:
    """Return what was measured under this key; None where it was not, or the file is damaged."""
    try:
        content = files.read_json(path)
        if content.pop("key") != key:
            return None
        measured = Measured(**content)
        valid = set(measured.hits) <= {"0", "1"} and measured.hits and math.isfinite(measured.milliseconds)
        return measured if valid else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _place(pipeline: Pipeline, backbone: Backbone) -> Path:
    """Return the path of the files of a backbone, without their endings."""
    return place_of(pipeline.paths.encoded.parent, backbone.name, backbone.weights)


def place_of(folder: Path, name: str, weights: str) -> Path:
    """Return the path of the files of a backbone in the folder of a data set, without their endings."""
    readable = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[-NAME_LENGTH:]
    digest = hashlib.sha256(f"{name}\n{weights}".encode()).hexdigest()[:12]
    return folder / "backbones" / f"{readable}-{digest}"
