"""Stage `train`: encoded.arrow -> classifier, table of trials, learning curves; one MLflow run per trial."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowerml.classifier import examples as saved_examples
from flowerml.classifier.calibration import Calibration
from flowerml.classifier.classifier import Classifier
from flowerml.classifier.repeats import beside
from flowerml.classifier.saved import EXAMPLES, REFERENCE
from flowerml.config.dotted import flatten
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Examples
from flowerml.data.names import category_names
from flowerml.engine import devices
from flowerml.engine.executors import Place, warm_up
from flowerml.monitoring.reference import Reference, read_reference
from flowerml.pipeline import repeats, scored
from flowerml.pipeline.origin import origin_of
from flowerml.pipeline.reference import fit_reference, of_refitted
from flowerml.pipeline.trainers import TaskNetworks, open_workers
from flowerml.search.progress import Bar, ShowProgress
from flowerml.search.search import SearchStorage, run_search
from flowerml.search.tables import write_tables
from flowerml.search.trials import search_fingerprint
from flowerml.tasks.registry import task_of
from flowerml.tracking import connection, lineage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import nn

    from flowerml.classifier.warm_start import WarmStart
    from flowerml.config.pipeline import Pipeline
    from flowerml.search.networks import Winner
    from flowerml.search.search import SearchResult
    from flowerml.search.trial import Trial
    from flowerml.tasks.records import Detector

    Calibrate = Callable[[Classifier], Calibration]

CALIBRATED_ON = 5000  # validation examples at most: one temperature and one quantile need no more


@dataclass(frozen=True)
class TrainResult:
    """A saved classifier with its trial, and the scores of the search as in search.json.

    `repeats` is the folder of the same training with other seeds, if any.
    """

    classifier: Classifier
    trial: "Trial"
    scores: dict[str, float]
    repeats: Path | None


def run(
    pipeline: "Pipeline",
    *,
    folder: "Path | None" = None,
    warm_start: "WarmStart | None" = None,
    show_progress: ShowProgress = Bar,
) -> TrainResult:
    """Search a pipeline's hyperparameters and save the best classifier, by default where dvc.yaml expects it.

    With `warm_start` the networks start from its weights; raises ModelError if these do not fit. Trials run in this
    process, or in the workers that the environment asks for: see `flowerml.engine.executors.Place`.
    """
    place = Place.from_environment()
    warm_up(place)
    connection.check()
    paths, task, section = pipeline.paths, task_of(pipeline), pipeline.train
    repeats_folder = paths.repeats if folder is None else beside(folder)
    repeats.check(repeats_folder)
    encoded = Encoded.read(paths.encoded)
    examples = Examples(paths.examples)
    data_digest = examples.digest()
    encoder = warm_start.encoder if warm_start else task.Encoder.load(paths.encoder)
    threads = section.threads
    if threads is not None:
        torch.set_num_threads(threads)
    data = task.training_data(encoded, encoded.classes, encoder)
    # In any case, as it also stops MKL from using fewer threads for small products: workers do the same.
    torch.set_num_threads(threads or task.suggested_threads(data, section) or torch.get_num_threads())
    precision = section.model_dump().get("precision", "float32")
    print(f"{pipeline.name}: training on {devices.describe(precision)}", file=sys.stderr)
    networks = TaskNetworks(task, encoder, data, task.with_valid(data, section) if section.refit else None)
    result, storage = _search(
        pipeline,
        networks,
        classes=encoded.classes,
        examples=examples,
        data_digest=data_digest,
        weights=warm_start.weights if warm_start else None,
        show_progress=show_progress,
        place=place,
    )
    names = {**(warm_start.names if warm_start else {}), **category_names(paths.category_names)}

    def saved(winner: "Winner", to: "Path") -> Classifier:
        return save(
            pipeline,
            winner,
            networks,
            classes=encoded.classes,
            names=names,
            data_digest=data_digest,
            folder=to,
            examples=examples,
        )

    classifier = saved(result.winner, folder or paths.classifier)
    # DVC expects the folder of repeats in any case.
    kept = repeats.write(repeats_folder, classifier, result.repeats, saved, always=folder is None)
    write_tables(result, paths.reports)
    storage.finish(result)
    return TrainResult(classifier, result.winner.trial, result.scores(), repeats_folder if kept else None)


def _search(
    pipeline: "Pipeline",
    networks: TaskNetworks,
    *,
    classes: tuple[str, ...],
    examples: Examples,
    data_digest: str,
    weights: "Mapping[str, torch.Tensor] | None",
    show_progress: ShowProgress,
    place: Place,
) -> "tuple[SearchResult, SearchStorage]":
    origin = origin_of(pipeline)
    fingerprint = search_fingerprint(
        pipeline.train,
        networks=networks.task.NETWORKS,
        classes=classes,
        data_digest=data_digest,
        encodings=[networks.encoder.fingerprint(pipeline.encode, split) for split in ("train", "valid")],
        weights=weights,
    )
    storage = SearchStorage(pipeline.name, pipeline.paths.checkpoint, fingerprint)
    with open_workers(pipeline, place, weights=weights) as workers:
        result = run_search(
            pipeline.train,
            networks,
            storage,
            parameters=partial(parameters, pipeline),
            tags=lineage.lineage_tags(origin, data_digest, stage="train", threads=torch.get_num_threads()),
            datasets=lineage.datasets(origin, examples),
            weights=weights,
            show_progress=show_progress,
            workers=workers,
        )
    return result, storage


def parameters(pipeline: "Pipeline", trial: "Trial") -> dict[str, Any]:
    """Return every parameter of the pipeline by its dotted name, with the trial's values."""
    values = pipeline.parameters() | flatten({"train": trial.section.model_dump()})
    return {name: value for name, value in values.items() if not name.startswith("train.search.")}


def save(
    pipeline: "Pipeline",
    winner: "Winner",
    networks: TaskNetworks,
    *,
    classes: tuple[str, ...],
    names: Mapping[str, str],
    data_digest: str,
    folder: Path,
    examples: Examples,
) -> Classifier:
    """Save the winner's network as a classifier, with a record of its training. Raises ModelError.

    It is calibrated on the raw inputs of the validation split, through the graph that will be served and not through
    the network in torch. A network that was trained on these has the calibration of the one before: its probabilities
    for them are those of examples that it has learned; and so for the reference that travels with it.
    """

    def save_network(
        network: "nn.Module",
        detector: "Detector | None",
        to: Path,
        calibrate: "Calibrate",
        reference: "Callable[[Classifier], Reference]",
    ) -> Classifier:
        return Classifier.save(
            to,
            kind=pipeline.kind,
            encoder=networks.encoder,
            network=network,
            detector=detector.module if detector else None,
            classes=classes,
            names=names,
            parameters=parameters(pipeline, winner.trial),
            trained={
                "pipeline": pipeline.name,
                "data_digest": data_digest,
                "threads": torch.get_num_threads(),
                **winner.trial.score(),
                **winner.record(),
                **lineage.environment(),
            },
            calibrate=calibrate,
            extras=lambda classifier: {
                REFERENCE: reference(classifier).to_bytes(),
                **_examples(classifier, examples, pipeline.train.examples),
            },
        )

    detector = networks.detector(winner.network)
    on_valid = partial(
        _calibrate,
        examples=examples,
        acceptance=pipeline.train.acceptance,
        held_out=detector.held_out if detector else None,
    )
    reference = partial(fit_reference, examples=examples)
    if winner.refitted is None:
        return save_network(winner.network, detector, folder, on_valid, reference)
    with TemporaryDirectory(prefix="flowerml-") as temporary:
        before = save_network(winner.network, detector, Path(temporary, "classifier"), on_valid, reference)
        of_before = read_reference(before.folder, before.description)
    assert of_before is not None, "it was saved with a reference"
    refitted = networks.detector(winner.refitted, detector)
    return save_network(
        winner.refitted,
        refitted,
        folder,
        lambda _: before.calibration,
        lambda classifier: of_refitted(of_before, before, classifier, examples),
    )


def _examples(classifier: Classifier, examples: Examples, count: int) -> dict[str, bytes]:
    """Return the file of test examples that travel with a classifier; none where there is none to offer."""
    chosen = saved_examples.choose(classifier, examples, count) if count else []
    return {EXAMPLES: saved_examples.to_bytes(classifier.task, chosen)} if chosen else {}


def _calibrate(
    classifier: Classifier, *, examples: Examples, acceptance: float, held_out: "NDArray[np.float64] | None"
) -> Calibration:
    """Return the calibration fitted on at most CALIBRATED_ON validation examples, evenly spaced."""
    step = math.ceil(examples.count("valid") / CALIBRATED_ON) or 1
    valid = list(islice(examples.keys("valid"), 0, None, step))
    wanted = {key.id for key in valid}
    index = {label: number for number, label in enumerate(classifier.classes)}
    targets = np.array([index[key.label] for key in valid], dtype=np.int64)
    answers = scored.scores(
        classifier, examples, "valid", where=lambda key: key.id in wanted, accelerated=classifier.on_gpu
    )
    # The logarithm differs from the logits by a constant, which softmax cancels.
    logits = np.log(np.maximum(answers.probabilities, np.finfo(np.float64).tiny))
    return Calibration.fit(logits, targets, acceptance=acceptance, strangeness=answers.strangeness, held_out=held_out)
