"""Tiny pretrained encoders in Hugging Face's layout: random weights, and a real tokenizer of a few sentences."""

import json
import re
from pathlib import Path
from string import ascii_lowercase
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel

from flowerml.data.examples import Example
from flowerml.tasks.text.encoder import Encoder
from flowerml.tasks.text.sections import Encode

SENTENCES = (
    "A good film that was never dull, and a splendid cast.",
    "The worst film I have ever seen: dull, long and badly told!",
    "Roses are red, violets are blue; who is afraid of the big bad wolf?",
)
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
FAMILIES = ("bert", "camembert", "distilbert", "modernbert", "mpnet", "roberta", "xlm-roberta")
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 44,
}
DISTILBERT_SIZES = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 44}
STEPS = {
    "strip_html": True,
    "lower_case": True,
    "letters_and_digits": True,
    "stop_words": "keep",
    "stem": False,
    "vocab_size": 50,
    "max_length": 60,
    "max_words": 90,
}
LIMITS = SimpleNamespace(characters=1_000_000)


def tokenizer() -> Tokenizer:
    """Return a WordPiece tokenizer of the sentences' words and of letters, with <s> before a text, </s> after it."""
    words = sorted({word for sentence in SENTENCES for word in re.findall(r"\w+|[^\w\s]", sentence.lower())})
    pieces = [f"{start}{letter}" for start in ("", "##") for letter in ascii_lowercase]
    # Not a trainer: its vocabulary differs from run to run.
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*SPECIAL, *words, *pieces]))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    made.add_special_tokens(list(SPECIAL))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(name, SPECIAL.index(name)) for name in ("<s>", "</s>")]
    )
    return made


def write_encoder(folder: Path, family: str = "bert", **changes: Any) -> Path:
    """Write a tiny encoder of a family, always the same one; `changes` are those of its configuration."""
    words = tokenizer()
    sizes = DISTILBERT_SIZES if family == "distilbert" else SIZES
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
    local = {"local_attention": 6, "global_attn_every_n_layers": 2} if family == "modernbert" else {}
    config = AutoConfig.for_model(family, **{**sizes, **ids, **local, "vocab_size": words.get_vocab_size(), **changes})
    torch.manual_seed(0)
    network = AutoModel.from_config(config)
    for parameter in network.parameters():
        if parameter.ndim > 1:  # transformers' own weights are so small that all texts look alike
            torch.nn.init.normal_(parameter, std=0.4)
    network.save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    return folder


def add_pooling(folder: Path, **flags: bool) -> None:
    """Add the files of sentence-transformers that say how states are pooled: by these flags, then scaled."""
    names = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"path": f"{number}_{name}" if number else "", "type": f"sentence_transformers.models.{name}"}
        for number, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))


def section(backbone: Path | str | None, **changes: Any) -> Encode:
    """Return the section `encode` with a backbone."""
    return Encode(**{**STEPS, "max_tokens": 24, "backbone": None if backbone is None else str(backbone), **changes})


def examples(*texts: str) -> list[Example]:
    """Return training examples of these texts, of two classes in turn."""
    return [Example(str(number), "train", "ab"[number % 2], text) for number, text in enumerate(texts)]


def fit(backbone: Path | str | None, **changes: Any) -> Encoder:
    """Return an encoder of the sentences with a backbone."""
    return Encoder.fit(examples(*SENTENCES), section(backbone, **changes), LIMITS)
