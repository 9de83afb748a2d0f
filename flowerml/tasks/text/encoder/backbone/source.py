"""Where a pretrained encoder lies: a folder in Hugging Face's layout, or a repository of the Hub."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowerml.core.display import display_path
from flowerml.core.errors import DownloadError, ModelError
from flowerml.core.regular import read_regular
from flowerml.data.download.hub import MissingFileError, Repository
from flowerml.tasks.text.encoder.tokens import TOKENIZER

HUB = "hf/"
CONFIG, CARD, MODULES = "config.json", "README.md", "modules.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# What a tokenizer without tokenizer.json is built from.
VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
MAX_JSON = 2**24
MAX_CARD = 2**20
EXAMPLE = "hf/sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Source:
    """The files of an encoder: `find` returns the path of a file, downloaded if need be, or None where there is none.

    `name` is what the user calls it.
    """

    name: str
    find: Callable[[str], Path | None]

    def json(self, file: str) -> Any:
        """Return the content of a JSON file, None where there is none; raises ModelError for a damaged one."""
        path = self.find(file)
        if path is None:
            return None
        try:
            return json.loads(read_regular(path, limit=MAX_JSON))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"encode.backbone: {path} is not JSON ({error}); download it again") from None

    def weights(self) -> Path:
        """Return the folder with the weights, all of whose parts are there; raises ModelError."""
        for name in WEIGHTS:
            path = self.find(name)
            if path is None:
                continue
            if name.endswith(".json"):
                self._parts(name)
            return path.parent
        raise ModelError(f"encode.backbone: {self.name} has no weights; expected {' or '.join(WEIGHTS[::2])}")

    def tokenizer(self) -> Path | None:
        """Return tokenizer.json; None where there is none, and the files of older tokenizers are there instead."""
        path = self.find(TOKENIZER)
        older = [] if path else [self.find(name) for name in VOCABULARIES]  # all of them, as they are read together
        if path is None and not any(older):
            raise ModelError(f"encode.backbone: {self.name} has no {TOKENIZER}; expected one beside {CONFIG}")
        return path

    def licence(self) -> str | None:
        """Return the licence that the card names, None where it names none."""
        try:
            path = self.find(CARD)
        except DownloadError:  # not worth an error
            return None
        return None if path is None else _licence(path)

    def _parts(self, name: str) -> None:
        index = self.json(name)
        files = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
            raise ModelError(f"encode.backbone: {self.name}: {name} does not say where the weights are")
        for file in sorted(set(files.values())):
            if Path(file).name != file or self.find(file) is None:
                raise ModelError(f"encode.backbone: {self.name} lacks {file}, which {name} names")


def source_of(backbone: str) -> Source:
    """Return the encoder that `encode.backbone` names: `hf/OWNER/NAME`, `hf/OWNER/NAME@REVISION` or a folder.

    Raises ModelError where there is none, and DownloadError.
    """
    if backbone.startswith(HUB):
        return _on_hub(backbone)
    folder = Path(backbone).expanduser()
    if not folder.is_dir():
        raise ModelError(
            f"encode.backbone: expected {HUB}OWNER/NAME of the Hugging Face Hub, such as {EXAMPLE}, or a folder in its "
            f"layout; there is no folder {backbone!r}"
        )
    if not (folder / CONFIG).is_file():
        raise ModelError(
            f"encode.backbone: {display_path(folder)} has no {CONFIG}; expected a folder with {CONFIG}, {TOKENIZER} "
            f"and {WEIGHTS[0]}"
        )
    return Source(backbone, lambda name: folder / name if (folder / name).is_file() else None)


def _on_hub(backbone: str) -> Source:
    alternative = (
        f"or download {CONFIG}, {TOKENIZER} and {WEIGHTS[0]} by hand into a folder and set encode.backbone to its path"
    )
    named = Repository.parse(backbone.removeprefix(HUB), alternative=alternative)
    if named.name.count("/") != 1 or not all(named.name.split("/")):
        raise ModelError(f"encode.backbone: expected {HUB}OWNER/NAME, such as {EXAMPLE}, found {backbone!r}")
    try:
        config = named.file(CONFIG)
    except MissingFileError:
        raise ModelError(f"encode.backbone: {backbone} has no {CONFIG}; expected an encoder of texts") from None
    # The cache has a folder for each commit: all files are then of one version, also if another is published meanwhile.
    commit = Repository(named.name, config.parent.name, alternative)

    def find(name: str) -> Path | None:
        if commit.lacks(name):
            return None
        try:
            return commit.file(name)
        except MissingFileError:
            return None

    return Source(backbone, find)


def _licence(card: Path) -> str | None:
    """Return `license:` of the YAML at the beginning of a model card."""
    try:
        lines = read_regular(card, limit=MAX_CARD).decode("utf-8", "replace").splitlines()
    except (OSError, ValueError):
        return None
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            return None
        name, _, value = line.partition(":")
        if name == "license" and value.strip():
            return value.strip().strip("\"'")[:100]
    return None
