"""The transformers of the Hugging Face library that encode texts: read from a folder, or built from a saved state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowerml.core.display import one_line, preview_list, printable
from flowerml.core.errors import ModelError


@dataclass(frozen=True)
class Family:
    """How a family of encoders is built.

    `pooler`: its class has a layer after the encoder, which features leave out. `padded_positions`: the first token has
    the position after that of padding, as in fairseq.
    """

    pooler: bool
    padded_positions: bool


FAMILIES = {
    "bert": Family(pooler=True, padded_positions=False),
    "camembert": Family(pooler=True, padded_positions=True),
    "distilbert": Family(pooler=False, padded_positions=False),
    "modernbert": Family(pooler=False, padded_positions=False),
    "mpnet": Family(pooler=True, padded_positions=True),
    "roberta": Family(pooler=True, padded_positions=True),
    "xlm-roberta": Family(pooler=True, padded_positions=True),
}
MPNET_PADDING = 1  # transformers ignores its pad_token_id

# Of a configuration only what changes an encoder's features is kept: others hold labels, training and generation.
NOT_KEPT = ("id2label", "label2id", "architectures", "transformers_version", "dtype", "torch_dtype", "_name_or_path")


def check_family(config: Any, name: str) -> str:
    """Return the family of a config.json; raises ModelError for a model that is no encoder of a known family."""
    family = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(family, str) or family not in FAMILIES:
        found = printable(family, 60) if isinstance(family, str) else "none"
        raise ModelError(
            f"encode.backbone: {name} is of the family {found!r} (model_type in config.json); expected an encoder of "
            f"texts of the families {preview_list(list(FAMILIES), 10)}"
        )
    if config.get("is_decoder") or config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelError(f"encode.backbone: {name} is a decoder or has relative positions; choose another encoder")
    return family


def read(folder: Path, family: str, *, name: str) -> nn.Module:
    """Return the transformer whose configuration and weights a folder holds, in float32; raises ModelError.

    Weights of other parts, such as a head for masked words, are left out; missing ones are an error.
    """
    from transformers import AutoModel

    with _quiet(), _model_errors(name):
        transformer, report = AutoModel.from_pretrained(
            folder,
            attn_implementation="eager",  # what the ONNX exporter knows
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            weights_only=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            **_options(family),
        )
    mismatched = [entry[0] for entry in report.get("mismatched_keys", ())]
    faults = sorted({*report.get("missing_keys", ()), *mismatched})
    if faults:
        raise ModelError(
            f"encode.backbone: the weights of {name} do not fit its config.json: {len(faults)} are missing or of "
            f"another shape, such as {printable(faults[0], 80)}"
        )
    return transformer


def build(config: Mapping[str, Any], family: str) -> nn.Module:
    """Return the transformer of a saved configuration with random weights, ready to load the saved ones."""
    from transformers import AutoConfig, AutoModel

    with _quiet(), _model_errors("the saved encoder"):
        return AutoModel.from_config(
            AutoConfig.for_model(family, **{name: value for name, value in config.items() if name != "model_type"}),
            attn_implementation="eager",
            dtype=torch.float32,
            **_options(family),
        )


def kept_config(transformer: Any) -> dict[str, Any]:
    """Return the configuration as plain data."""
    config = transformer.config.to_diff_dict()
    return {key: value for key, value in config.items() if key not in NOT_KEPT and not key.startswith("_")}


def first_position(transformer: Any, family: str) -> int:
    """Return the position of the first token."""
    if not FAMILIES[family].padded_positions:
        return 0
    padding = MPNET_PADDING if family == "mpnet" else transformer.config.pad_token_id
    return int(padding) + 1


def window(transformer: Any, family: str) -> int | None:
    """Return how far a token of a local layer sees to each side, None where there are no such layers."""
    return int(transformer.config.sliding_window) if family == "modernbert" else None


def most_tokens(transformer: Any, family: str) -> int:
    """Return how many tokens a text may have."""
    return int(transformer.config.max_position_embeddings) - first_position(transformer, family)


def _options(family: str) -> dict[str, Any]:
    return {"add_pooling_layer": False} if FAMILIES[family].pooler else {}


@contextmanager
def _model_errors(name: str) -> Iterator[None]:
    """Translate what reading a damaged folder raises, which may be anything, to a ModelError of one line."""
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"encode.backbone: {name} cannot be read ({type(error).__name__}: {printable(one_line(error), 300)})"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars and its tables of weights that are left out."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
