"""The sections of params.yaml that a pipeline of texts has."""

from typing import Annotated, Literal

from pydantic import Field

from flowerml.config import params
from flowerml.config.params import Count, Fraction, Positive, Section


class Limits(params.Limits):
    """The length of a text is counted in characters."""

    characters: Count


class Checks(params.Checks):
    """The length of a text is counted in words; two texts are alike by a share of their runs of five words."""

    fewest_words: Count
    most_words: Count
    near_resemblance: Annotated[float, Field(gt=0, le=1)]


class Data(params.Data):
    """Texts may also come as a table, with columns for text, label and (if there are any) split and group."""

    text_column: str
    label_column: str
    split_column: str | None
    group_column: str | None
    checks: Checks
    limits: Limits


class Encode(Section):
    """The course's steps, each by its name; what stems are known; where the sequences end."""

    strip_html: bool
    lower_case: bool
    letters_and_digits: bool
    stop_words: Literal["drop", "keep", "keep_negations"]
    stem: bool
    vocab_size: Annotated[int, Field(ge=3)]
    max_length: Count
    max_words: Count


class Train(params.Train):
    """Which network, and the numbers of each."""

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
