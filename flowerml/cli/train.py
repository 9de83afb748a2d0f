"""`flowerml train`: from labelled pictures or texts to a classifier."""

import os
import re
import shlex
import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from flowerml.cli import options, output
from flowerml.config.paths import DESCRIPTION
from flowerml.core.errors import FlowermlError

if TYPE_CHECKING:
    from flowerml.classifier.warm_start import WarmStart
    from flowerml.config.pipeline import Pipeline
    from flowerml.pipeline.run import RunResult

NAME = "train"
EXAMPLES = """[bold]Examples[/]

  flowerml train my_pictures/
  flowerml train flower_data.tar.gz --category-names cat_to_name.json
  flowerml train reviews.csv --network lstm --set data.text_column=review
  flowerml train pictures.zip --backbone vgg16 --hidden-units 512 --epochs 10
  flowerml train more_pictures/ --from models/my_pictures/classifier
"""
WORK = Path(".flowerml")
PACKINGS = re.compile(r"(\.tar)?\.(gz|bz2|xz|tgz|tar|zip|csv|tsv|jsonl|parquet)$", re.IGNORECASE)
ARCHITECTURE = {
    "--backbone": "encode.backbone",
    "--network": "train.network",
    "--hidden-units": "train.hidden_units",
}


def main(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A folder, archive, table, URL or published name (flowers102, imdb).")
    ],
    kind: Annotated[options.Kind | None, typer.Option(help="Of the data, where it cannot be told.")] = None,
    save_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The classifier's. Default: models/DATA/classifier.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="CLASSIFIER", help="Train this one further, on the same classes.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Of pictures: any of torchvision, or timm/NAME.")] = None,
    network: Annotated[str | None, typer.Option(help="Of texts: lstm, ngrams or blend.")] = None,
    hidden_units: Annotated[
        list[int] | None, typer.Option(min=1, help="Of pictures: width of a hidden layer; again for another.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training examples.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples in one step.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Share of the inputs of a layer left out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and search.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Of a search over train.search.space; 1 is no search.")] = 1,
    device: Annotated[options.Device, typer.Option(help="auto: the GPU where there is one.")] = options.Device.auto,
    category_names: options.CategoryNames = None,
    valid: Annotated[float | None, typer.Option(help="Share dealt to valid, where the data have none.")] = None,
    test: Annotated[float | None, typer.Option(help="Share dealt to test, where the data have none.")] = None,
    limit: Annotated[int | None, typer.Option(min=3, help="At most so many of each class.")] = None,
    changes: options.Changes = None,
    work_dir: Annotated[Path, typer.Option(metavar="FOLDER", help="Keeps encodings for the next time.")] = WORK,
    arch: Annotated[str | None, typer.Option("--arch", hidden=True)] = None,
    gpu: options.Gpu = False,
) -> None:
    """Train a classifier on labelled pictures or texts, of which the kind is told from the data.

    What is not said is as in params.yaml: in a project, as the winner of its last search had it.
    Every trial is a run in MLflow (MLFLOW_TRACKING_URI, by default mlflow.db in this folder).
    """
    _use(options.Device.cuda if gpu else device)
    chosen = {
        **{"encode.backbone": backbone or arch, "train.network": network, "train.hidden_units": hidden_units or None},
        **{"train.learning_rate": learning_rate, "train.epochs": epochs, "train.batch_size": batch_size},
        **{"train.dropout": dropout, "train.seed": seed, "train.search.trials": trials},
        **{"data.split.valid": valid, "data.split.test": test, "data.limit": limit},
        "data.category_names": None if category_names is None else str(category_names),
    }
    values = {**{name: value for name, value in chosen.items() if value is not None}, **options.parsed(changes)}
    if from_ is not None:
        _refuse_sizes(values)
    name = _name(data)
    folder = _folder(save_dir, name, data)
    result, pipeline = _train(data, kind and kind.value, values, name, folder, work_dir, from_)
    again = [f"-S {shlex.quote(one)}" for one in changes or [] if one.startswith("data.")]
    _print(result, pipeline, " ".join([shlex.quote(data), *again]))


def _train(
    data: str, kind: str | None, values: dict[str, Any], name: str, folder: Path, work: Path, finished: str | None
) -> "tuple[RunResult, Pipeline]":
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # a bar in a file is a mess
    from flowerml.cli import progress
    from flowerml.config.paths import Paths
    from flowerml.core.locks import hold_lock
    from flowerml.pipeline import adhoc, run
    from flowerml.tracking import connection

    connection.check()
    warm_start = _warm_start(finished)
    kind = kind or (warm_start.kind if warm_start else None)
    start = warm_start.parameters if warm_start else None
    root = _kept(work)
    with hold_lock(Paths(name, root).lock, waiting=f"{name}: another process trains it in {root}; waiting for its end"):
        pipeline, origin = adhoc.pipeline_from_data(data, kind, values, name=name, root=root, start=start)
        output.say(f"{data}: of kind {pipeline.kind}; parameters not given are those of {finished or origin}")
        result = run.run(pipeline, folder, shows=progress.shown, say=output.say, warm_start=warm_start)
        return result, pipeline


def _warm_start(model: str | None) -> "WarmStart | None":
    from flowerml.classifier.warm_start import WarmStart
    from flowerml.registry.locate import resolve_model

    if model is None:
        return None
    with resolve_model(model) as folder:
        return WarmStart.load(folder)


def _print(result: "RunResult", pipeline: "Pipeline", same_data: str) -> None:
    from flowerml.tasks.registry import task_of

    best = result.trial.best
    assert best is not None, "a trial that won has seen an epoch"
    folder = shlex.quote(str(result.classifier.folder))
    numbers = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in result.metrics.items())
    print(f"valid: accuracy {best.valid_accuracy:.4f}, loss {best.valid_loss:.4f} (epoch {best.number})")
    print(f"test: {numbers}")
    print(f"\nclassifier: {folder}")
    print(f"  flowerml predict {task_of(pipeline).EXAMPLE_ARGUMENT} --model {folder}")
    print(f"  flowerml evaluate {folder} {same_data}")
    print(f"  flowerml web --model {folder}")
    print(f"runs: experiment {pipeline.name!r} in MLflow; reports: {pipeline.paths.reports}")


def _name(data: str) -> str:
    """What the experiment and the folders are called: the data's name without what says how they are packed."""
    last = urlsplit(data).path if "://" in data else str(Path(data).expanduser().resolve())
    return re.sub(r"[^\w.-]+", "_", PACKINGS.sub("", PurePath(last).name)).strip("._") or "data"


def _folder(given: Path | None, name: str, data: str) -> Path:
    """Where the classifier will be saved; raises FlowermlError for a folder that holds anything else."""
    from flowerml.config.paths import Paths

    folder = given or Paths(name).classifier
    if given is None:
        _refuse_anothers(folder, name, data)
    if folder.exists() and not (folder / DESCRIPTION).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FlowermlError(f"{folder}: holds other things, and would be replaced; name a new folder with --save-dir")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlowermlError(f"{folder}: cannot be written to ({error.strerror}); choose another --save-dir") from None
    return folder


def _refuse_anothers(folder: Path, name: str, data: str) -> None:
    """Raises FlowermlError where a pipeline, or a training on other data, has its classifier in this folder."""
    from flowerml.config import params
    from flowerml.core import files

    if params.PARAMS_FILE.exists() and name in params.read()["pipelines"]:
        raise FlowermlError(f"{folder} is where `dvc repro` puts the pipeline {name}; choose a folder with --save-dir")
    if (folder / DESCRIPTION).is_file():
        source = files.read_json(folder / DESCRIPTION)["parameters"].get("data.source")
        if source != data:
            raise FlowermlError(f"{folder} was trained on {source}; choose another folder with --save-dir")


def _refuse_sizes(values: dict[str, Any]) -> None:
    fixed = [option for option, name in ARCHITECTURE.items() if name in values]
    if fixed:
        raise typer.BadParameter(f"keeps the network it has; leave out {', '.join(fixed)}", param_hint="--from")
    if values["train.search.trials"] > 1:
        raise typer.BadParameter("is one training, not a search; leave out --trials", param_hint="--from")


def _kept(work: Path) -> Path:
    """The working folder; git passes it over."""
    from flowerml.core import files

    ignored = work / ".gitignore"
    if not ignored.exists() and (work == WORK or not work.exists()):
        with files.replacing(ignored) as temporary:
            temporary.write_text("*\n")
    return work


def _use(device: options.Device) -> None:
    """Have torch compute there; raises FlowermlError where it cannot."""
    if device is options.Device.cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if device is options.Device.cuda:
        import torch

        if not torch.cuda.is_available():
            raise FlowermlError("torch finds no GPU here; leave --device out, or say --device cpu")
