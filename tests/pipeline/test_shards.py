"""Encoding in shards and joining them."""

import random
from pathlib import Path

import pytest

from flowerml.cli import encode as command
from flowerml.config.defaults import defaults
from flowerml.core import files
from flowerml.core.errors import DataError, FlowermlError
from flowerml.data import examples
from flowerml.data.encodings import Unfinished
from flowerml.data.examples import Example
from flowerml.pipeline import encode, shards
from flowerml.pipeline.shards import Shard
from flowerml.tasks.pipelines import checked_pipeline

WORDS = ["a", "fine", "dull", "film", "with", "actors", "who", "know", "their", "lines"]


def reviews(count: int) -> list[Example]:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) for _ in range(count)]
    splits = [("train", "valid", "test")[min(n % 5, 2)] for n in range(count)]
    return [Example(f"{n}.txt", splits[n], "neg" if n % 2 else "pos", text) for n, text in enumerate(texts)]


@pytest.fixture
def pipeline(tmp_path):
    """Return a pipeline with extracted texts."""

    def make(rows=None, **encode):
        sections = defaults("text").sections
        sections["encode"].update(encode)
        pipeline = checked_pipeline("reviews", "text", sections, path=Path("params.yaml"), root=tmp_path)
        examples.write(pipeline.paths.examples, rows or reviews(60), raw=str)
        files.write_json(pipeline.paths.category_names, {})
        files.write_json(pipeline.paths.checks, {"classes": {}, "counts": {}, "findings": [], "skipped": []})
        return pipeline

    return make


@pytest.fixture
def whole(pipeline):
    """Return the encodings that one process writes, and remove them."""
    made = pipeline()
    encode.run(made)
    content = made.paths.encoded.read_bytes()
    made.paths.encoded.unlink()
    files.remove(made.paths.encoder)
    return content


def encode_all(pipeline, count, *, without=()):
    for number in random.Random(count).sample(range(1, count + 1), count):
        if number not in without:
            shards.encode_shard(pipeline, Shard(number, count))


@pytest.mark.parametrize("count", [1, 7, 70])
def test_shards_give_the_bytes_of_one_process(pipeline, whole, count):
    made = pipeline()
    encode_all(made, count)
    report = shards.join(made)
    assert made.paths.encoded.read_bytes() == whole
    assert (report.encoded, report.unchanged) == (0, 24)
    assert made.paths.encoder.is_dir() and made.paths.encoded_checks.is_file()
    assert not Unfinished.of(made.paths.encoded).folder.exists()
    assert encode.run(made).unchanged == 24  # so `dvc repro` encodes nothing


def test_a_join_names_what_is_missing(pipeline):
    made = pipeline()
    with pytest.raises(DataError, match=r"no shards; encode each with `flowerml encode reviews --shard 1/N`"):
        shards.join(made)
    encode_all(made, 7, without=(2, 5))
    encode_all(made, 3, without=(1, 2, 3))
    with pytest.raises(DataError, match=r"encoded.unfinished: shards 2/7, 5/7 are missing; run them"):
        shards.join(made)
    assert not made.paths.encoded.exists()


def test_a_shard_of_other_parameters_is_named(pipeline, whole):
    encode_all(pipeline(max_words=9), 3)
    made = pipeline()
    shards.encode_shard(made, Shard(1, 3))
    with pytest.raises(DataError, match="shards 2/3, 3/3 are of other parameters, packages or processors"):
        shards.join(made)
    for number in (2, 3):
        assert shards.encode_shard(made, Shard(number, 3)).encoded == 8
    shards.join(made)
    assert made.paths.encoded.read_bytes() == whole


def test_examples_that_changed_are_told(pipeline):
    made = pipeline()
    encode_all(made, 3)
    rows = reviews(60)
    rows[1] = Example(rows[1].id, "valid", "pos", "Something else.")
    made = pipeline(rows)
    with pytest.raises(DataError, match="1 of 24 examples are in no shard: the examples have changed"):
        shards.join(made)


def test_a_damaged_shard_is_named(pipeline):
    made = pipeline()
    encode_all(made, 3)
    path = Unfinished.of(made.paths.encoded).shard(2, 3)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="shard 2/3 is of other parameters"):
        shards.join(made)


def test_a_shard_run_twice_reuses_its_rows(pipeline):
    made = pipeline()
    first = shards.encode_shard(made, Shard(2, 3))
    content = Unfinished.of(made.paths.encoded).shard(2, 3).read_bytes()
    again = shards.encode_shard(made, Shard(2, 3))
    assert (first.encoded, again.encoded, again.unchanged) == (8, 0, 8)
    assert Unfinished.of(made.paths.encoded).shard(2, 3).read_bytes() == content


def test_rows_of_former_encodings_are_reused(pipeline, whole):
    made = pipeline()
    encode.run(made)
    assert shards.encode_shard(made, Shard(1, 2)).encoded == 0


def test_an_encode_without_join_uses_the_shards(pipeline, whole):
    made = pipeline()
    encode_all(made, 4, without=(3,))
    report = encode.run(made)
    assert (report.encoded, report.unchanged) == (6, 18)
    assert made.paths.encoded.read_bytes() == whole


def test_shards_of_other_counts_do_not_disturb(pipeline, whole):
    made = pipeline()
    encode_all(made, 5, without=(1,))
    encode_all(made, 2)
    shards.join(made)
    assert made.paths.encoded.read_bytes() == whole


@pytest.mark.parametrize(
    "text", ["", "3", "0/3", "4/3", "-1/3", "1/0", "a/b", "1/3/4", "٣/٤", "1/99999999999", "1/3\n2"]
)
def test_shards_are_numbers(text):
    with pytest.raises(FlowermlError, match="--shard: expected NUMBER/COUNT") as error:
        Shard.parse(text)
    assert "\n" not in str(error.value)


def test_a_shard_is_not_joined():
    with pytest.raises(FlowermlError, match="--join: is for after all shards have ended"):
        command.encode("reviews", "1/2", join=True)


def test_the_stage_takes_the_options_of_the_command():
    arguments = command.parser().parse_args(["reviews", "--shard", "3/16"])
    assert (arguments.pipeline, arguments.shard, arguments.join) == ("reviews", "3/16", False)
    assert command.parser().parse_args(["reviews"]).shard is None
