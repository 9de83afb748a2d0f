"""The params.yaml sections of a text pipeline."""

from typing import Annotated, Literal

from pydantic import Field

from flowerml.config import params
from flowerml.config.params import Count, Fraction, Positive, Section

ColumnName = str | Annotated[int, Field(ge=0)]


class Limits(params.Limits):
    """Limits on what is read; the length of a text is counted in characters."""

    characters: Count


class Checks(params.Checks):
    """Thresholds of the data checks; lengths are in words, resemblance is the shared fraction of five-word runs."""

    fewest_words: Count
    most_words: Count
    near_resemblance: Annotated[float, Field(gt=0, le=1)]


class Data(params.Data):
    """Where the texts come from. For tables: the columns of text, label and, optionally, split and group.

    A column is its name in the header, or its number from 0 in a table without one.
    """

    text_column: ColumnName
    label_column: ColumnName
    split_column: ColumnName | None
    group_column: ColumnName | None
    checks: Checks
    limits: Limits


class Encode(Section):
    """The cleaning steps, the size of the dictionary and the maximum lengths of the sequences; a pretrained encoder.

    `backbone` is hf/OWNER/NAME (with @REVISION, if wanted), a folder, or None. Older files lack the last five.
    """

    strip_html: bool
    lower_case: bool
    letters_and_digits: bool
    stop_words: Literal["drop", "keep", "keep_negations"]
    stem: bool
    vocab_size: Annotated[int, Field(ge=3)]
    max_length: Count
    max_words: Count
    characters: Annotated[int, Field(ge=0, le=10**6)] = 0
    backbone: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    pooling: Literal["auto", "mean", "cls", "max"] = "auto"
    max_tokens: Annotated[int, Field(ge=2, le=10**6)] = 256
    prefix: Annotated[str, Field(max_length=1000)] = ""


class Train(params.Train):
    """The choice of network and the hyperparameters of each."""

    network: Literal["lstm", "ngrams", "blend"]
    embedding_dim: Count
    hidden_dim: Count
    layers: Count
    bidirectional: bool
    pooling: Literal["last", "mean_max"]
    dropout: Fraction
    order: Count
    buckets: Count
    smoothing: Positive
    penalty: Positive
    minimum_count: Count
