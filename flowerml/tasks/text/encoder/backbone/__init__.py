"""Pretrained encoders of texts: a frozen transformer, its tokens, and how both are described."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from flowerml.core.errors import ModelError
from flowerml.core.regular import read_regular
from flowerml.engine import onnx
from flowerml.tasks.text.encoder.backbone import transformer
from flowerml.tasks.text.encoder.backbone.pooled import POOLINGS, Pooled
from flowerml.tasks.text.encoder.backbone.source import MODULES, VOCABULARIES, Source, source_of
from flowerml.tasks.text.encoder.tokens import MAX_BYTES, TOKENIZER, Tokens

if TYPE_CHECKING:
    from flowerml.tasks.text.sections import Encode

__all__ = ["Built", "architecture", "build"]

POOLING, NORMALIZE = "Pooling", "Normalize"  # classes of sentence-transformers, which has moved their modules
MAX_SIZE = onnx.MAX_BYTES - 2**26  # of the weights; the graph has an n-gram table, too
PLAIN_NAME = re.compile(r"[\w-]{1,100}")
POOLING_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class Built:
    """A frozen encoder, its tokens, and the facts that rebuild it, as plain data."""

    frozen: Pooled
    tokens: Tokens
    facts: dict[str, Any]


def build(section: "Encode") -> Built:
    """Return the encoder that `encode.backbone` names. Raises ModelError, and DownloadError.

    The configuration is read first: a model of another family is refused before its weights are downloaded.
    """
    assert section.backbone is not None, "there is a backbone"
    source = source_of(section.backbone)
    family = transformer.check_family(source.json("config.json"), source.name)
    pooling, normalize = _pooling(source, section.pooling)
    content = _tokenizer(source)
    network: Any = transformer.read(source.weights(), family, name=source.name)
    _check_size(network, source.name)
    pooled = _pooled(network, family, pooling=pooling, normalize=normalize)
    read = Tokens(content, section.max_tokens, section.prefix)
    _check_tokens(network, family, read, source.name)
    facts = {
        "name": section.backbone,
        "family": family,
        "config": transformer.kept_config(network),
        "pooling": pooling,
        "normalize": normalize,
        "features": int(network.config.hidden_size),
        "licence": source.licence(),
        "max_tokens": section.max_tokens,
        "prefix": section.prefix,
    }
    return Built(pooled, read, facts)


def architecture(facts: Mapping[str, Any]) -> Pooled:
    """Return the frozen encoder with random weights, ready to load saved ones; raises ModelError."""
    family = transformer.check_family({"model_type": facts["family"]}, facts["name"])
    network = transformer.build(facts["config"], family)
    return _pooled(network, family, pooling=facts["pooling"], normalize=facts["normalize"])


def _pooled(network: nn.Module, family: str, *, pooling: str, normalize: bool) -> Pooled:
    return Pooled(
        network,
        pooling=pooling,
        normalize=normalize,
        first_position=transformer.first_position(network, family),
        window=transformer.window(network, family),
    )


def _pooling(source: Source, wanted: str) -> tuple[str, bool]:
    """Return how states are pooled, and whether features are scaled to length 1, as sentence-transformers would.

    Without its modules.json: the mean, scaled.
    """
    modules = source.json(MODULES)
    if not isinstance(modules, list):
        return ("mean" if wanted == "auto" else wanted), True
    types = {str(module.get("type")).rpartition(".")[2]: module for module in modules if isinstance(module, dict)}
    if wanted == "auto":
        wanted = _named_pooling(source, types.get(POOLING))
    return wanted, NORMALIZE in types


def _named_pooling(source: Source, module: dict[str, Any] | None) -> str:
    if module is None:
        return "mean"
    folder = str(module.get("path"))
    config = source.json(f"{folder}/config.json") if PLAIN_NAME.fullmatch(folder) else None
    flags = config if isinstance(config, dict) else {}
    chosen = [name for name, value in flags.items() if name.startswith("pooling_mode_") and value is True]
    named = flags.get("pooling_mode") if not chosen else None
    if len(chosen) == 1 and chosen[0] in POOLING_FLAGS:
        return POOLING_FLAGS[chosen[0]]
    if named in POOLINGS:
        return str(named)
    if not config:
        return "mean"
    raise ModelError(
        f"encode.backbone: {source.name} pools by {' and '.join(chosen) or named}, which is not supported; choose "
        f"encode.pooling: {', '.join(POOLINGS)}"
    )


def _tokenizer(source: Source) -> bytes:
    """Return the content of tokenizer.json, which transformers converts from older files where there is none."""
    path = source.tokenizer()
    if path is not None:
        try:
            return read_regular(path, limit=MAX_BYTES)
        except OSError as error:
            raise ModelError(f"encode.backbone: {path} cannot be read ({error.strerror})") from None
    return _converted(next(path for name in VOCABULARIES if (path := source.find(name))).parent, source.name)


def _converted(folder: Path, name: str) -> bytes:
    from transformers import AutoTokenizer

    try:
        converted = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_fast=True)
        content: str = converted.backend_tokenizer.to_str()
    except Exception as error:  # of any kind: a converter needs other packages, or other files
        raise ModelError(
            f"encode.backbone: {name} has no {TOKENIZER}, and transformers cannot make one from its older files "
            f"({type(error).__name__}); save one with transformers' AutoTokenizer and put it into the folder"
        ) from None
    return content.encode()


def _check_size(network: nn.Module, name: str) -> None:
    size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    if size > MAX_SIZE:
        raise ModelError(
            f"encode.backbone: {name} has weights of {size / 1e9:.1f} GB, and an ONNX graph holds at most "
            f"{MAX_SIZE / 1e9:.1f} GB; choose a smaller encoder"
        )


def _check_tokens(network: Any, family: str, read: Tokens, name: str) -> None:
    most, words = transformer.most_tokens(network, family), network.get_input_embeddings().num_embeddings
    if read.max_tokens > most:
        raise ModelError(f"encode.max_tokens: expected at most {most:,} for {name}, found {read.max_tokens:,}")
    if read.highest >= words:
        raise ModelError(
            f"encode.backbone: the tokenizer of {name} has tokens up to number {read.highest:,}, but its embeddings "
            f"only {words:,}; expected files of one model"
        )
