"""`flowerml backbones`: which pretrained network suits labelled pictures best."""

import os
import shlex
import sys
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowerml.cli import options, output
from flowerml.cli.train import WORK_DIR, name_of, work_folder
from flowerml.core.display import format_size
from flowerml.core.errors import FlowermlError

if TYPE_CHECKING:
    from flowerml.pipeline.backbones import Failed, Measured
    from flowerml.tasks.records import Backbone

NAME = "backbones"
EXAMPLES = """[bold]Examples[/]

  flowerml backbones my_pictures/
  flowerml backbones flower_data.tar.gz --limit 20
  flowerml backbones my_pictures/ --backbone resnet50 --backbone timm/convnext_tiny.fb_in22k
  flowerml backbones my_pictures/ --all --match "timm/vit_base*"
"""
MAX_SIZES = 60  # networks of timm whose size is worked out, each in a tenth of a second
MEGA = 10**6


def main(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A folder, archive, URL or published name (flowers102) of pictures.")
    ],
    backbone: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Rank only this one; its weights are downloaded if needed. Repeatable."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also list those that would be downloaded; nothing is.")
    ] = False,
    match: Annotated[str, typer.Option(metavar="PATTERN", help="With --all: only names like vit_*.")] = "*",
    limit: Annotated[
        int | None, typer.Option(min=3, help="At most this many pictures of each class, for a quick look.")
    ] = None,
    changes: options.Changes = None,
    work_dir: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder that keeps results and encodings.")
    ] = WORK_DIR,
    json: options.Json = False,
) -> None:
    """Rank the pretrained networks that are here by a linear probe on your pictures, with size and time.

    Each is frozen, and a linear head on its features is trained and scored on the validation split.
    The pretraining counts most: a better network here gains more than any other parameter.
    """
    from flowerml.pipeline.backbones import Failed

    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    values = options.parsed(changes)
    if limit is not None:
        values["data.limit"] = limit
    results = _ranked(data, backbone or [], values, work_dir)
    measured = sorted(
        (result for result in results if not isinstance(result, Failed)),
        key=lambda result: (-result.accuracy.estimate, result.milliseconds, result.name),
    )
    listed = _published(match) if everything else []
    if json:
        for result in measured:
            output.json_line(_as_json(result, measured[0]))
        for network in listed:
            output.json_line({**asdict(network), "accuracy": None})
    else:
        if measured:
            _print(measured, data)
        if everything:
            _print_published(listed, match)
    if failed := len(results) - len(measured):
        raise FlowermlError(f"{failed} of {len(results)} backbones could not be ranked")


def _ranked(data: str, names: list[str], values: dict[str, Any], work: Path) -> "list[Measured | Failed]":
    """Return what each backbone does, after saying on stderr what could not be measured."""
    from flowerml.config.paths import Paths
    from flowerml.core.locks import hold_lock
    from flowerml.pipeline import adhoc, backbones, extract

    name, root = name_of(data), work_folder(work) / backbones.RANKING
    results: list[Measured | Failed] = []
    with hold_lock(
        Paths(name, root).lock, waiting=f"{name}: another process is ranking backbones on it; waiting for it to finish"
    ):
        pipeline, _ = adhoc.pipeline_from_data(data, None, values, name=name, root=root)
        candidates = backbones.candidates(pipeline, names)
        output.say(extract.summary(extract.run(pipeline)))

        def on_start(backbone: "Backbone") -> None:
            output.say(f"{_title(backbone)} ({len(results) + 1} of {len(candidates)})")

        for result in backbones.rank(pipeline, candidates, on_start=on_start):
            if isinstance(result, backbones.Failed):
                output.say(f"warning: {_title(result.backbone)} was skipped: {result.message}")
            results.append(result)
    return results


def _published(pattern: str) -> "list[Backbone]":
    """Return the networks that would be downloaded and whose names match, with the sizes of the first of them."""
    from flowerml.tasks.image import available

    found = [network for network in available.backbones(published=True) if not network.is_here]
    listed = [network for network in found if any(fnmatchcase(name, pattern) for name in _names(network))]
    unknown = [network.name for network in listed if network.file_bytes is None][:MAX_SIZES]
    sizes = {name: available.published_bytes(name) for name in unknown}
    return [replace(network, file_bytes=network.file_bytes or sizes.get(network.name)) for network in listed]


def _names(network: "Backbone") -> tuple[str, str]:
    return network.name, network.name.rpartition("/")[2]


def _as_json(result: "Measured", best: "Measured") -> dict[str, Any]:
    described = asdict(result)
    hits = described.pop("hits")
    behind = None if result is best else best.ahead_of(result).interval
    return {
        **described,
        "accuracy": result.accuracy.estimate,
        "interval": result.accuracy.limits(),
        "valid_examples": len(hits),
        "behind_best": behind and {"difference": behind.estimate, **behind.limits()},
    }


def _print(measured: "list[Measured]", data: str) -> None:
    columns = ("backbone", "valid", "95 %", "weights", "size", "ms")
    rows = [
        [
            _title(result),
            f"{result.accuracy.estimate:.3f}",
            f"{result.accuracy.low:.3f}-{result.accuracy.high:.3f}",
            f"{result.parameters / MEGA:.1f} M",
            format_size(result.bytes),
            f"{result.milliseconds:.0f}",
        ]
        for result in measured
    ]
    output.table(columns, rows, numbers=columns[1:])
    best = measured[0]
    if len(measured) > 1:
        output.print_text(_lead(best, measured[1:]))
    output.print_text("valid: of a linear head on the frozen features; ms: one picture on one core")
    output.print_text(f"  flowerml train {shlex.quote(data)} {_option(best)}")


def _lead(best: "Measured", others: "list[Measured]") -> str:
    """Return how far the best is ahead of the nearest one that chance does not explain."""
    for other in others:
        lead = best.ahead_of(other)
        if lead.verdict == "better":
            low, high = (100 * limit for limit in (lead.interval.low, lead.interval.high))
            return f"{best.name} is better than {other.name} by {low:.1f} to {high:.1f} points (95 %)."
    return f"Chance on {len(best.hits):,} validation examples explains the differences."


def _print_published(listed: "list[Backbone]", pattern: str) -> None:
    if not listed:
        output.print_text(f"no network to download has a name like {pattern}")
        return
    rows = [[_title(network), format_size(network.file_bytes) if network.file_bytes else ""] for network in listed]
    output.table(("to download", "size"), rows, numbers=("size",))
    if not all(network.file_bytes for network in listed):
        output.print_text(f"The size is shown of {MAX_SIZES} networks of timm at most: narrow the list by --match.")
    output.print_text("Rank one of them with --backbone NAME, which downloads it.")


def _title(backbone: "Backbone | Measured") -> str:
    return backbone.name if backbone.weights == "imagenet" else f"{backbone.name} ({backbone.weights})"


def _option(best: "Measured") -> str:
    weights = "" if best.weights == "imagenet" else f" --set encode.weights={best.weights}"
    return f"--backbone {best.name}{weights}"
