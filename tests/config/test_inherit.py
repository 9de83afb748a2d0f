"""A params.yaml that says only what differs from the defaults of its kind of data."""

import re

import pytest
import yaml

from flowerml.config import params
from flowerml.config.defaults import SHIPPED_PARAMS, defaults, shipped
from flowerml.config.dotted import flatten, set_by_dotted_name
from flowerml.core.errors import ParamsError
from flowerml.tasks.pipelines import load_pipeline
from tests.support.project import REPOSITORY


@pytest.fixture
def load(tmp_path):
    """Return a function that reads the only pipeline of a params.yaml of this text."""

    def read(text: str):
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        return load_pipeline(next(iter(params.read(path)["pipelines"])), path)

    return read


def test_what_is_not_given_is_the_default(load):
    pipeline = load("pipelines: {birds: image}\nbirds: {train: {epochs: 3}}")
    expected = flatten(shipped("image")) | {"train.epochs": 3, "export.registered_model": "birds"}
    assert {name: expected[name] for name in pipeline.parameters() if "space" not in name} == {
        name: value for name, value in pipeline.parameters().items() if "space" not in name
    }


@pytest.mark.parametrize(
    "text", ["pipelines: {birds: image}", "pipelines: {birds: image}\nbirds:\n  train:\n  data:\n"]
)
def test_empty_sections_take_all_defaults(load, text):
    assert load(text).train.epochs == shipped("image")["train"]["epochs"]


def test_an_entry_may_hold_its_sections(load):
    tickets = "{kind: text, data: {source: tickets.csv, text_column: Document, label_column: Topic}}"
    pipeline = load(f"pipelines:\n  tickets: {tickets}")
    assert (pipeline.kind, pipeline.data.source, pipeline.data.text_column) == ("text", "tickets.csv", "Document")
    assert pipeline.export.registered_model == "tickets"


def test_both_forms_mean_the_same(load):
    inside = load("pipelines: {tickets: {kind: text, train: {order: 2}}}")
    assert inside == load("pipelines: {tickets: text}\ntickets: {train: {order: 2}}")


def test_a_search_space_is_replaced_whole(load):
    pipeline = load("pipelines: {birds: image}\nbirds: {train: {search: {space: {dropout: [0.1]}}}}")
    assert list(pipeline.train.search.space) == ["dropout"]


def test_a_value_that_is_given_is_not_searched(load):
    space = load("pipelines: {birds: image}\nbirds: {train: {dropout: 0.1, search: {trials: 4}}}").train.search.space
    assert space.keys() == shipped("image")["train"]["search"]["space"].keys() - {"dropout"}


def test_a_file_without_newer_parameters_keeps_its_meaning(load):
    older = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))["reviews"]
    del older["train"]["folds"], older["train"]["characters"], older["encode"]["characters"]
    text = yaml.safe_dump({"pipelines": {"reviews": "text"}, "reviews": older})
    assert (load(text).train.folds, load(text).train.characters, load(text).encode.characters) == (0, 0, 0)
    pinned = load(f"flowerml: 0.1.0\n{text}")
    assert pinned.train.folds == shipped("text")["train"]["folds"] > 0


@pytest.mark.parametrize("name", ["flowers", "reviews"])
def test_a_whole_file_is_taken_as_it_is(name):
    given = flatten(yaml.load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"), params.Loader)[name])
    resolved = load_pipeline(name, REPOSITORY / "params.yaml").parameters()
    assert {key: value for key, value in resolved.items() if key in given and "space" not in key} == {
        key: value for key, value in given.items() if "space" not in key
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: text, tran: {}}", "pipelines.tickets.tran: unknown name; did you mean 'train'?"),
        ("{data: {}}", "pipelines.tickets: expected `kind:`, such as `kind: image`"),
        ("{kind: texts}", "expected one of image, text, found 'texts'; did you mean 'text'?"),
        (
            "{kind: text, train: {epoch: 3}}",
            "pipelines.tickets.train.epoch: unknown name; did you mean 'epochs'?",
        ),
        ("{kind: text}\ntickets: {}", "tickets: has sections here and in pipelines.tickets; move those of the former"),
    ],
)
def test_a_wrong_entry_is_one_line(load, text, message):
    with pytest.raises(ParamsError, match=re.escape(message)) as raised:
        load(f"pipelines:\n  tickets: {text}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("train.learning_rat", "did you mean 'train.learning_rate'?"),
        ("learning_rate", "did you mean 'train.learning_rate'?"),
        ("tran.epochs", "did you mean 'train.epochs'?"),
        ("train.zzz", "known are seed, threads"),
    ],
)
def test_setting_an_unknown_name_proposes_the_nearest(name, hint):
    with pytest.raises(ParamsError, match=re.escape(f"{name}: unknown parameter for this kind of data; {hint}")):
        set_by_dotted_name(shipped("image"), {name: 1})


def test_flowerml_train_starts_from_a_short_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params.PARAMS_FILE.write_text("pipelines: {tickets: {kind: text, train: {smoothing: 0.5}}}")
    sections = defaults("text").sections
    assert sections["train"]["smoothing"] == 0.5
    assert sections["encode"] == params.read(SHIPPED_PARAMS)["texts"]["encode"]


def test_a_misspelt_pipelines_gets_a_suggestion(load):
    with pytest.raises(ParamsError, match="did you mean it by 'pipeline'"):
        load("pipeline: {birds: image}")
