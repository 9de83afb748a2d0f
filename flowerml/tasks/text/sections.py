"""The params.yaml sections of a text pipeline."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

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


REFIT_FOLDS = 5  # in a refit, where the section has none
OF_NGRAMS = {"order", "characters", "weighting", "smoothing", "penalty", "minimum_count", "folds"}
OF_LSTM = {"embedding_dim", "hidden_dim", "layers", "bidirectional", "pooling", "dropout"}
OF_LSTM |= set(params.Train.model_fields) - {*params.NOT_SEARCHED, "class_weights"}  # gradient descent


class Train(params.Train):
    """The choice of network and the hyperparameters of each.

    `network` None is n-grams, or with a pretrained encoder its blend with n-grams; `blend` is the same, or without an
    encoder n-grams with the LSTM.
    """

    network: Literal["lstm", "ngrams", "head", "blend"] | None
    hidden_units: list[Count] = Field(default_factory=list)  # a default, as older files lack it
    embedding_dim: Count
    hidden_dim: Count
    layers: Count
    bidirectional: bool
    pooling: Literal["last", "mean_max"]
    dropout: Fraction
    order: Count | None
    characters: Annotated[int, Field(ge=0)] = 0  # a default, as older files lack it; so are the next two
    weighting: Literal["ratios", "idf", "plain"] = "ratios"
    smoothing: Positive
    penalty: Positive | None
    minimum_count: Count | None
    folds: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _no_buckets(cls, values: Any) -> Any:
        if isinstance(values, dict) and "buckets" in values:
            raise ValueError("`buckets` is gone, as the table of n-grams is as large as the data; remove it")
        return values

    @field_validator("ensemble")
    @classmethod
    def _blend_instead(cls, ensemble: int) -> int:
        if ensemble != 1:
            raise ValueError(f"expected 1, found {ensemble}; networks for texts are combined by `network: blend`")
        return ensemble

    @property
    def planned_epochs(self) -> int:
        """One for networks that a solver fits at once."""
        at_once = self.network in ("ngrams", None) or (self.network == "head" and not self.hidden_units)
        return 1 if at_once else self.epochs

    def refitted(self, chosen: Mapping[str, float]) -> Self:
        """Return the section with the penalty that was chosen, and with folds: what calibrates without valid texts.

        A blend of n-grams with a head has chosen two penalties, and chooses them again.
        """
        folds = {"folds": self.folds or REFIT_FOLDS}
        return self.with_values(folds | ({"penalty": chosen["penalty"]} if "penalty" in chosen else {}))

    def searched(self) -> dict[str, params.Candidates]:
        """Return the search space without what no network reads that may be trained."""
        space = self.search.space
        networks = space.get("network", [self.network])
        unread = set[str]()
        if not {"ngrams", "blend", "head", None} & {*networks}:
            unread |= OF_NGRAMS
        if not {"lstm", "blend"} & {*networks}:
            unread |= OF_LSTM
        return {name: candidates for name, candidates in space.items() if name not in unread}

    @field_validator("characters")
    @classmethod
    def _none_or_three(cls, characters: int) -> int:
        if 0 < characters < 3:
            raise ValueError("expected 0, for no n-grams of characters, or 3 and more")
        return characters

    @field_validator("folds")
    @classmethod
    def _none_or_two(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("expected 0, for valid alone, or 2 and more")
        return folds
