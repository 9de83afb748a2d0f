"""The files of a saved classifier: the schema of classifier.json, and the digests of the others."""

import hashlib
import math
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from flowerml.classifier.calibration import MAX_STRANGE
from flowerml.config.paths import DESCRIPTION
from flowerml.core import schema
from flowerml.core.display import one_line, printable
from flowerml.core.errors import ModelError
from flowerml.core.regular import open_regular, read_regular
from flowerml.tasks.registry import TASKS

FORMAT = 1
GRAPH, WEIGHTS = "network.onnx", "weights.safetensors"
MAX_BYTES = 64 * 2**20  # of classifier.json; a dictionary of a million stems takes 15 MB
MAX_WEIGHTS = 2**34  # the graph, which holds them too, has at most 2 GiB
ASSETS = {"tokenizer.json": 64 * 2**20}  # files that a preprocessing may need, and the bytes they have at most
REFERENCE = "reference.json"  # the watched numbers of validation examples: see flowerml.monitoring.reference
EXAMPLES = "examples.json"  # small test examples to try it with: see flowerml.classifier.examples
EXTRAS = {REFERENCE: 2**20, EXAMPLES: 2**18}  # files that travel with a classifier, and that predicting does without
MAX_CLASSES = 10**6
MAX_FEATURES = 64
MAX_HEADER = 10**8  # bytes; what safetensors accepts
DIGEST = schema.text(64)
COLUMN = schema.either("the name or number of a column", schema.text(), schema.whole(0, 10**6))
BACKBONE = schema.either("a name, or a list of names", schema.text(), schema.items(schema.text(), 1, 100))
MEMBER = schema.record({"trial": schema.whole(0, 10**9), "count": schema.whole(1, 10**9)})

SCHEMA = schema.record(
    {
        "task": schema.text(),
        "classes": schema.items(schema.text(), 1, MAX_CLASSES, unique=True),
        "names": schema.mapping(schema.text()),
        "encoder": schema.mapping(schema.plain),
        "parameters": schema.record(
            {},
            {
                "data.source": schema.text(),
                "data.text_column": schema.nullable(COLUMN),
                "data.label_column": schema.nullable(COLUMN),
                "encode.backbone": schema.nullable(BACKBONE),
                "encode.weights": schema.nullable(schema.text()),
                "train.network": schema.nullable(schema.text()),
                "train.hidden_units": schema.nullable(schema.items(schema.whole(1, 10**9), 0, 1000)),
            },
        ),
        "trained": schema.record(
            {},
            {
                "pipeline": schema.text(),
                "data_digest": schema.text(),
                "best_valid_accuracy": schema.number(0, 1),
                "ensemble": schema.record(
                    {"by": schema.choice(("probabilities", "soup")), "members": schema.items(MEMBER, 1, 10**4)}
                ),
                "refit": schema.text(),
            },
        ),
    },
    {
        "calibration": schema.mapping(schema.nullable(schema.number(0, MAX_STRANGE))),
        "assets": schema.items(schema.choice(ASSETS), 0, len(ASSETS), unique=True),
        "digests": schema.record({GRAPH: DIGEST, WEIGHTS: DIGEST}, dict.fromkeys((*ASSETS, *EXTRAS), DIGEST)),
        "features": schema.items(schema.text(100), 0, MAX_FEATURES, unique=True),
    },
)
"""Of what every classifier has; the task checks its encoder, and `Calibration` itself.

Of parameters and facts of the training, only those are named that are more than shown.
"""

TENSORS = schema.mapping(schema.record({"shape": schema.items(schema.whole(0, 2**40), 0, 16)}))
"""Of the header of a safetensors file, for counting."""


def read_description(folder: Path) -> dict[str, Any]:
    """Return the checked contents of classifier.json; raises ModelError."""
    try:
        description = schema.parse(read_regular(folder / DESCRIPTION, limit=MAX_BYTES))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"{folder}: not a saved classifier; expected a folder with {DESCRIPTION} ({reason})") from None
    saved_format = description.get("format") if isinstance(description, dict) else None
    if saved_format != FORMAT or isinstance(saved_format, bool):
        shown = saved_format if type(saved_format) is int and abs(saved_format) < 10**9 else type(saved_format).__name__
        raise ModelError(f"{folder}: saved in format {shown}; this version reads {FORMAT}")
    try:
        _check(description)
    except ModelError as error:
        raise ModelError(f"{folder}: {DESCRIPTION}: {error}; copy the whole folder again") from None
    return dict(description)


def keep_versions(folder: Path, former: Path) -> None:
    """Take over the former description where a new classifier differs from it in nothing but what it was trained by.

    So a training with other versions of packages that gives the same network, answers and files leaves every byte as
    it was: nothing is registered again, and `trained` says with which versions it was first trained.
    """
    try:
        before = read_description(former)
    except ModelError:  # none, or one that is replaced
        return
    if _without_versions(before) == _without_versions(read_description(folder)):
        shutil.copyfile(former / DESCRIPTION, folder / DESCRIPTION)


def _without_versions(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description without the facts of `flowerml.tracking.lineage.environment`."""
    trained = {
        name: value
        for name, value in description["trained"].items()
        if name not in ("python", "machine") and not name.startswith("version.")
    }
    return {**description, "trained": trained}


def _check(description: dict[str, Any]) -> None:
    SCHEMA(description, "")
    schema.choice(TASKS)(description["task"], "task")
    nameless = next((label for label in description["classes"] if label not in description["names"]), None)
    schema.plain(description, "")
    if nameless is not None:
        raise ModelError(f"names.{printable(nameless, 60)} is missing")


def check_digest(description: Mapping[str, Any], name: str, digest: str) -> None:
    """Raise ModelError if a file of this digest is not the one that was saved; earlier versions saved no digests."""
    expected = description.get("digests", {}).get(name, digest)
    if digest != expected:
        raise ModelError(f"{name} is not the file that was saved (SHA-256 {digest[:12]}…, expected {expected[:12]}…)")


def names(description: Mapping[str, Any]) -> list[str]:
    """Return the names of the files of a classifier; its folder may hold others, which are nobody's."""
    assets, digests = description.get("assets", ()), description.get("digests", {})
    return [DESCRIPTION, GRAPH, WEIGHTS, *assets, *(name for name in EXTRAS if name in digests)]


def write_assets(folder: Path, assets: Mapping[str, bytes]) -> list[str]:
    """Write the files that the preprocessing needs into a classifier's folder; return their names."""
    for name, content in assets.items():
        assert name in ASSETS, f"{name} is declared above"
        (folder / name).write_bytes(content)
    return sorted(assets)


def write_extras(folder: Path, extras: Mapping[str, bytes]) -> dict[str, str]:
    """Write files that travel with a classifier into its folder; return their digests by name."""
    for name, content in extras.items():
        assert name in EXTRAS, f"{name} is declared above"
        (folder / name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in extras.items()}


def read_assets(folder: Path, description: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files that the preprocessing needs, by name. Raises ModelError."""
    return {name: _read(folder, description, name, ASSETS[name]) for name in description.get("assets", ())}


def read_extra(folder: Path, description: Mapping[str, Any], name: str) -> bytes | None:
    """Return a file of EXTRAS; None where the classifier was saved without it. Raises ModelError."""
    if name not in description.get("digests", {}):
        return None
    try:
        return _read(folder, description, name, EXTRAS[name])
    except ModelError as error:
        raise ModelError(f"{folder}: {error}; copy the whole folder again") from None


def _read(folder: Path, description: Mapping[str, Any], name: str, limit: int) -> bytes:
    try:
        content = read_regular(folder / name, limit=limit)
    except OSError as error:
        raise ModelError(f"{name} cannot be read ({error.strerror})") from None
    check_digest(description, name, hashlib.sha256(content).hexdigest())
    return content


def check_weights(folder: Path, description: Mapping[str, Any]) -> None:
    """Raise ModelError unless the weights can be read and are those that were saved."""
    try:
        check_digest(description, WEIGHTS, digest(folder / WEIGHTS))
    except OSError as error:
        raise ModelError(
            f"{folder}: the weights cannot be read ({error.strerror}); copy the whole folder again"
        ) from None
    except ModelError as error:
        raise ModelError(f"{folder}: {error}; copy the whole folder again") from None


def count_weights(folder: Path) -> int | None:
    """Return the number of weights, from the header of their file; None where it is missing. Raises ModelError."""
    try:
        with open_regular(folder / WEIGHTS, limit=MAX_WEIGHTS) as file:
            tensors = schema.parse(_header(file))
        if isinstance(tensors, dict):
            tensors.pop("__metadata__", None)
        TENSORS(tensors, "")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ModelError, too
        reason = printable(one_line(getattr(error, "strerror", None) or error), 200)
        raise ModelError(f"{folder}: {WEIGHTS} cannot be read ({reason}); copy the whole folder again") from None
    return sum(math.prod(tensor["shape"]) for tensor in tensors.values())


def _header(file: BinaryIO) -> bytes:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    content = file.read(min(length, MAX_HEADER))
    if not content or len(content) < length:
        raise ValueError("it has no header")
    return content


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with open_regular(path, limit=MAX_WEIGHTS) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # of a typing.BinaryIO
