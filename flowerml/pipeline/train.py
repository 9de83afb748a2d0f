"""Stage `train`: encoded.arrow -> classifier, table of trials, learning curves; one MLflow run per trial."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowerml.classifier.calibration import Calibration
from flowerml.classifier.classifier import Classifier
from flowerml.config.dotted import flatten
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Examples
from flowerml.data.names import category_names
from flowerml.pipeline.origin import origin_of
from flowerml.search.progress import Bar, ShowProgress
from flowerml.search.search import SearchStorage, run_search
from flowerml.search.tables import write_tables
from flowerml.search.trials import search_fingerprint
from flowerml.tasks.registry import task_of
from flowerml.tracking import connection, lineage

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from flowerml.classifier.warm_start import WarmStart
    from flowerml.config.pipeline import Pipeline
    from flowerml.search.search import Winner
    from flowerml.search.study import Search, Trial
    from flowerml.tasks.base import Detector, Encoder

CALIBRATED_ON = 5000  # validation examples at most: one temperature and one quantile need no more


@dataclass(frozen=True)
class TrainResult:
    """A saved classifier and its trial."""

    classifier: Classifier
    trial: "Trial"


def run(
    pipeline: "Pipeline",
    *,
    folder: "Path | None" = None,
    warm_start: "WarmStart | None" = None,
    show_progress: ShowProgress = Bar,
) -> TrainResult:
    """Search a pipeline's hyperparameters and save the best classifier, by default where dvc.yaml expects it.

    With `warm_start` the networks start from its weights; raises ModelError if these do not fit.
    """
    connection.check()
    paths = pipeline.paths
    encoded = Encoded.read(paths.encoded)
    examples = Examples(paths.examples)
    data_digest = examples.digest()
    encoder = warm_start.encoder if warm_start else task_of(pipeline).Encoder.load(paths.encoder)
    if pipeline.train.threads is not None:
        torch.set_num_threads(pipeline.train.threads)
    data = task_of(pipeline).training_data(encoded, encoded.classes, encoder)
    search, winner, storage = _search(
        pipeline,
        data,
        encoder,
        classes=encoded.classes,
        examples=examples,
        data_digest=data_digest,
        weights=warm_start.weights if warm_start else None,
        show_progress=show_progress,
    )
    names = {**(warm_start.names if warm_start else {}), **category_names(paths.category_names)}
    classifier = save(
        pipeline,
        winner,
        encoder,
        detector=task_of(pipeline).fit_detector(data, winner.network),
        classes=encoded.classes,
        names=names,
        data_digest=data_digest,
        folder=folder or paths.classifier,
        examples=examples,
    )
    write_tables(search, paths.reports)
    storage.finish()
    return TrainResult(classifier, winner.trial)


def _search(
    pipeline: "Pipeline",
    data: Any,
    encoder: "Encoder[Any, Any, Any]",
    *,
    classes: tuple[str, ...],
    examples: Examples,
    data_digest: str,
    weights: "Mapping[str, torch.Tensor] | None",
    show_progress: ShowProgress,
) -> "tuple[Search, Winner, SearchStorage]":
    task, origin = task_of(pipeline), origin_of(pipeline)
    fingerprint = search_fingerprint(
        pipeline.train,
        networks=task.NETWORKS,
        classes=classes,
        data_digest=data_digest,
        encodings=[encoder.fingerprint(pipeline.encode, split) for split in ("train", "valid")],
        weights=weights,
    )
    storage = SearchStorage(pipeline.name, pipeline.paths.checkpoint, fingerprint)
    search, winner = run_search(
        pipeline.train,
        partial(task.build_network, data),
        storage,
        parameters=partial(parameters, pipeline),
        tags=lineage.lineage_tags(origin, data_digest, stage="train", threads=torch.get_num_threads()),
        datasets=lineage.datasets(origin, examples),
        weights=weights,
        show_progress=show_progress,
    )
    return search, winner, storage


def parameters(pipeline: "Pipeline", trial: "Trial") -> dict[str, Any]:
    """Return every parameter of the pipeline by its dotted name, with the trial's values."""
    values = pipeline.parameters() | flatten({"train": trial.section.model_dump()})
    return {name: value for name, value in values.items() if not name.startswith("train.search.")}


def save(
    pipeline: "Pipeline",
    winner: "Winner",
    encoder: "Encoder[Any, Any, Any]",
    *,
    detector: "Detector | None",
    classes: tuple[str, ...],
    names: Mapping[str, str],
    data_digest: str,
    folder: "Path",
    examples: Examples | None = None,
) -> Classifier:
    """Save the winner's network as a classifier, with a record of its training. Raises ModelError.

    With `examples` it is calibrated on the raw inputs of the validation split, through the graph that will be served
    and not through the network in torch.
    """
    acceptance = pipeline.train.acceptance
    return Classifier.save(
        folder,
        kind=pipeline.kind,
        encoder=encoder,
        network=winner.network,
        detector=detector.module if detector else None,
        classes=classes,
        names=names,
        parameters=parameters(pipeline, winner.trial),
        trained={
            "pipeline": pipeline.name,
            "data_digest": data_digest,
            "threads": torch.get_num_threads(),
            **winner.trial.score(),
            **lineage.environment(),
        },
        calibrate=None
        if examples is None
        else partial(
            _calibrate,
            examples=examples,
            acceptance=acceptance,
            held_out=detector.held_out if detector else None,
        ),
    )


def _calibrate(
    classifier: Classifier, *, examples: Examples, acceptance: float, held_out: "NDArray[np.float64] | None"
) -> Calibration:
    """Return the calibration fitted on at most CALIBRATED_ON validation examples, evenly spaced."""
    step = math.ceil(examples.count("valid") / CALIBRATED_ON) or 1
    valid = list(islice(examples.keys("valid"), 0, None, step))
    wanted = {key.id for key in valid}
    index = {label: number for number, label in enumerate(classifier.classes)}
    targets = np.array([index[key.label] for key in valid], dtype=np.int64)
    raws = (example.raw for example in examples.of("valid", where=lambda key: key.id in wanted))
    probabilities, strangeness = classifier.scored(raws)
    # The logarithm differs from the logits by a constant, which softmax cancels.
    logits = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return Calibration.fit(logits, targets, acceptance=acceptance, strangeness=strangeness, held_out=held_out)
