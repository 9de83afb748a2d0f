"""`flowerml train`: train a classifier on labelled pictures or texts."""

import enum
import os
import re
import shlex
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from flowerml.cli import extras, options, output
from flowerml.config.paths import DESCRIPTION
from flowerml.core.errors import FlowermlError

if TYPE_CHECKING:
    from flowerml.classifier.warm_start import WarmStart
    from flowerml.config.pipeline import Pipeline
    from flowerml.pipeline.presets import Preset
    from flowerml.pipeline.run import RunResult

NAME = "train"
EXAMPLES = """[bold]Examples[/]

  flowerml train my_pictures/
  flowerml train flower_data.tar.gz --category-names cat_to_name.json
  flowerml train reviews.csv --network lstm --set data.text_column=review
  flowerml train reviews.csv --backbone hf/sentence-transformers/all-MiniLM-L6-v2
  flowerml train pictures.zip --backbone vgg16 --hidden-units 512 --epochs 10
  flowerml train my_pictures/ --preset best --minutes 30
  flowerml train more_pictures/ --from models/my_pictures/classifier
"""


class PresetName(enum.StrEnum):
    """What may be given as a preset."""

    fast = "fast"
    balanced = "balanced"
    best = "best"


WORK_DIR = Path(".flowerml")
ARCHIVE_SUFFIXES = re.compile(r"(\.tar)?\.(gz|bz2|xz|tgz|tar|zip|csv|tsv|jsonl|parquet)$", re.IGNORECASE)
SEARCHED = "ngrams"  # the network whose search takes seconds
ARCHITECTURE_OPTIONS = {
    "--backbone": "encode.backbone",
    "--network": "train.network",
    "--hidden-units": "train.hidden_units",
}


def main(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A folder, archive, table, URL or published name (flowers102, imdb).")
    ],
    kind: Annotated[options.Kind | None, typer.Option(help="Kind of the data. Default: inferred from it.")] = None,
    save_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the classifier. Default: models/DATA/classifier.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="CLASSIFIER", help="Continue training this one, on the same classes."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Pretrained network. Pictures: any of torchvision, or timm/NAME. Texts: hf/OWNER/NAME, or a folder."
        ),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="Network for texts: ngrams, lstm, head (on a backbone) or blend.")
    ] = None,
    hidden_units: Annotated[
        list[int] | None, typer.Option(min=1, help="Width of a hidden layer on a backbone. Repeatable.")
    ] = None,
    preset: Annotated[
        PresetName | None,
        typer.Option(
            help="Of pictures: fast (frozen features), balanced (last blocks trained), best (several networks)."
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Time for a preset: chooses epochs, size and number of networks.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size of the optimizer.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training examples.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples in one training step.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Share of a layer's inputs that are dropped.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for weights, order and search.")] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, help="Trials of the search; 1 is no search. Default: 1 for pictures, 4 for n-grams of texts."
        ),
    ] = None,
    device: Annotated[options.Device, typer.Option(help="auto: the GPU if there is one.")] = options.Device.auto,
    engine: options.EngineOption = None,
    address: options.Address = None,
    workers: options.Workers = None,
    category_names: options.CategoryNames = None,
    valid: Annotated[float | None, typer.Option(help="Share for validation, if the data have no splits.")] = None,
    test: Annotated[float | None, typer.Option(help="Share for the test, if the data have no splits.")] = None,
    limit: Annotated[int | None, typer.Option(min=3, help="At most this many examples of each class.")] = None,
    register: Annotated[
        str | None, typer.Option(metavar="NAME", help="Register it as a version of this model, through the gate.")
    ] = None,
    changes: options.Changes = None,
    work_dir: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder that keeps encodings for the next run.")
    ] = WORK_DIR,
    arch: Annotated[str | None, typer.Option("--arch", hidden=True)] = None,
    gpu: options.Gpu = False,
) -> None:
    """Train a classifier on labelled pictures or texts; their kind is inferred from the data.

    Other parameters come from params.yaml; in a project, from the winner of its last search.
    Every trial is an MLflow run (at MLFLOW_TRACKING_URI, by default mlflow.db in this folder).
    """
    from flowerml.engine.executors import warm_up
    from flowerml.registry.register import check_name

    if register is not None:
        check_name(register)  # now, rather than after the training
    _select_device(options.Device.cuda if gpu else device)
    warm_up(options.use_workers(engine, address, workers))
    chosen = {
        "encode.backbone": backbone or arch,
        "train.network": network,
        "train.hidden_units": hidden_units or None,
        "train.learning_rate": learning_rate,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.dropout": dropout,
        "train.seed": seed,
        "train.search.trials": trials,
        "data.split.valid": valid,
        "data.split.test": test,
        "data.limit": limit,
        "data.category_names": None if category_names is None else str(category_names),
    }
    values = {**{name: value for name, value in chosen.items() if value is not None}, **options.parsed(changes)}
    wanted = _preset(preset, minutes, values, from_)
    if from_ is not None:
        _refuse_changes(values)
        values["train.search.trials"] = 1
    if values.get("train.network", SEARCHED) != SEARCHED:
        values.setdefault("train.search.trials", 1)  # a search of others takes minutes
    name = name_of(data)
    folder = _folder(save_dir, name, data)
    result, pipeline = _train(data, kind and kind.value, values, name, folder, work_dir, from_, wanted)
    data_changes = [f"-S {shlex.quote(change)}" for change in changes or [] if change.startswith("data.")]
    _print(result, pipeline, " ".join([shlex.quote(data), *data_changes]))
    if register is not None:
        _register(pipeline, result, register)
    if wanted is None and from_ is None:
        _print_hint(pipeline)


def _register(pipeline: "Pipeline", result: "RunResult", name: str) -> None:
    from flowerml.pipeline.register import of_training
    from flowerml.registry.register import advice, summary

    registration = of_training(pipeline, result.classifier, name)
    output.print_text(f"\n{summary(registration)}\n{advice(registration)}")


def _train(
    data: str,
    kind: str | None,
    values: dict[str, Any],
    name: str,
    folder: Path,
    work: Path,
    start_model: str | None,
    preset: "Preset | None",
) -> "tuple[RunResult, Pipeline]":
    from flowerml.cli import progress
    from flowerml.config.paths import Paths
    from flowerml.core.locks import hold_lock
    from flowerml.pipeline import adhoc, run
    from flowerml.tracking import connection

    connection.check()
    warm_start = _warm_start(start_model)
    kind = kind or (warm_start.kind if warm_start else None)
    start = _start_parameters(warm_start) if warm_start else None
    root = work_folder(work)
    with hold_lock(
        Paths(name, root).lock, waiting=f"{name}: another process is training it in {root}; waiting for it to finish"
    ):
        pipeline, origin = adhoc.pipeline_from_data(
            data, kind, values, name=name, root=root, start=start, complete=preset is None
        )
        output.say(f"{data}: of kind {pipeline.kind}; parameters not given are those of {start_model or origin}")
        result = run.run(
            pipeline,
            folder,
            show_progress=progress.reporter,
            on_summary=output.say,
            warm_start=warm_start,
            preset=preset,
        )
        return result, pipeline


def _preset(
    name: PresetName | None, minutes: float | None, values: dict[str, Any], start_model: str | None
) -> "Preset | None":
    """Return the preset with the user's own values, which win; raises BadParameter where it does not apply."""
    from flowerml.pipeline.presets import Preset

    if name is None:
        if minutes is not None:
            raise typer.BadParameter("is for a preset; add --preset balanced or --preset best", param_hint="--minutes")
        return None
    if start_model is not None:
        raise typer.BadParameter("chooses the parameters that --from keeps; leave one out", param_hint="--preset")
    return Preset(name.value, values, minutes)


def _print_hint(pipeline: "Pipeline") -> None:
    from flowerml.tasks.registry import task_of

    if hint := task_of(pipeline).preset_hint(pipeline.parameters()):
        output.say(hint)


def _start_parameters(warm_start: "WarmStart") -> dict[str, Any]:
    """Return the parameters of the network, without those of the search that it was found by."""
    from flowerml.config.defaults import OF_SEARCH

    of_search = {f"train.{name}" for name in OF_SEARCH}
    return {name: value for name, value in warm_start.parameters.items() if name not in of_search}


def _warm_start(model: str | None) -> "WarmStart | None":
    from flowerml.classifier.warm_start import WarmStart
    from flowerml.registry.locate import resolve_model

    if model is None:
        return None
    with resolve_model(model) as folder:
        return WarmStart.load(folder)


def _print(result: "RunResult", pipeline: "Pipeline", data: str) -> None:
    from flowerml.evaluation.intervals import OF_REPEATS
    from flowerml.pipeline.evaluate import PAGE, of_repeats
    from flowerml.pipeline.run import CURVES
    from flowerml.tasks.registry import task_of

    best = result.trial.best
    assert best is not None, "the winning trial has finished an epoch"
    folder = shlex.quote(str(result.classifier.folder))
    metrics = ", ".join(
        f"{name.replace('_', ' ')} {value:.4f}" for name, value in result.metrics.items() if name not in OF_REPEATS
    )
    output.print_text(f"valid: accuracy {best.valid_accuracy:.4f}, loss {best.valid_loss:.4f} (epoch {best.number})")
    if "ensemble_valid_accuracy" in result.scores:
        output.print_text(f"of the ensemble: accuracy {result.scores['ensemble_valid_accuracy']:.4f}")
    output.print_text(f"test: {metrics}")
    if "repeats" in result.metrics:
        output.print_text(of_repeats(result.metrics))
    output.print_text(f"\nclassifier: {folder}")
    output.print_text(f"  flowerml predict {task_of(pipeline).EXAMPLE_ARGUMENT} --model {folder}")
    output.print_text(f"  flowerml evaluate {folder} {data}")
    output.print_text(f"  flowerml web --model {folder}{extras.page_note('   # ')}")
    output.print_text(f"report:     {shlex.quote(str(result.reports / PAGE))}")
    output.print_text(f"curves:     {shlex.quote(str(result.reports / CURVES))}")
    output.print_text(f"MLflow experiment: {pipeline.name}")


def name_of(data: str) -> str:
    """Return the name of the experiment and the folders: the data's file name without the suffixes of archives."""
    last = urlsplit(data).path if "://" in data else str(Path(data).expanduser().resolve())
    return re.sub(r"[^\w.-]+", "_", ARCHIVE_SUFFIXES.sub("", PurePath(last).name)).strip("._") or "data"


def _folder(save_dir: Path | None, name: str, data: str) -> Path:
    """Return where to save the classifier; raises FlowermlError for a folder with other contents."""
    from flowerml.config.paths import Paths

    folder = save_dir or Paths(name).classifier
    if save_dir is None:
        _refuse_others(folder, name, data)
    if folder.exists() and not (folder / DESCRIPTION).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FlowermlError(f"{folder}: has other contents, which would be replaced; name a new folder with --save-dir")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlowermlError(f"{folder}: cannot be written to ({error.strerror}); choose another --save-dir") from None
    return folder


def _refuse_others(folder: Path, name: str, data: str) -> None:
    """Raise FlowermlError where the folder is a pipeline's, or has a classifier trained on other data."""
    from flowerml.classifier import saved
    from flowerml.config import params

    if params.PARAMS_FILE.exists() and name in params.read()["pipelines"]:
        raise FlowermlError(f"{folder} belongs to the pipeline {name} of `dvc repro`; choose a folder with --save-dir")
    if (folder / DESCRIPTION).is_file():
        source = saved.read_description(folder)["parameters"].get("data.source")
        if source != data:
            raise FlowermlError(f"{folder} was trained on {source}; choose another folder with --save-dir")


def _refuse_changes(values: dict[str, Any]) -> None:
    """Raise BadParameter for options that training further cannot follow."""
    fixed = [option for option, name in ARCHITECTURE_OPTIONS.items() if name in values]
    if fixed:
        raise typer.BadParameter(f"keeps its network; leave out {', '.join(fixed)}", param_hint="--from")
    if values.get("train.search.trials", 1) > 1:
        raise typer.BadParameter("trains once, without a search; leave out --trials", param_hint="--from")


def work_folder(work: Path) -> Path:
    """Return the folder for encodings, after telling git to ignore it."""
    from flowerml.core import files

    ignored = work / ".gitignore"
    if not ignored.exists() and (work == WORK_DIR or not work.exists()):
        with files.replacing(ignored) as temporary:
            temporary.write_text("*\n")
    return work


def _select_device(device: options.Device) -> None:
    """Select the device for torch; raises FlowermlError where it is not available."""
    if device is options.Device.cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if device is options.Device.cuda:
        import torch

        if not torch.cuda.is_available():
            raise FlowermlError("torch finds no GPU here; leave out --device, or choose --device cpu")
