import re
from functools import reduce
from operator import getitem

import pytest
from pydantic import ValidationError

from flowerml.config import params
from flowerml.core.errors import ParamsError
from flowerml.tasks.pipelines import checked_pipeline, load_pipeline
from tests.support.project import REPOSITORY

SPACE = "flowers.train.search.space"


@pytest.fixture
def train():
    return load_pipeline("flowers", REPOSITORY / "params.yaml").train


def check_error(path, message: str):
    """Check that reading the pipeline `flowers` from `path` fails with exactly this message."""
    with pytest.raises(ParamsError) as caught:
        load_pipeline("flowers", path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("train.epochs", "many", 'expected a valid integer, found "many"'),
        ("train.epochs", 2.5, "expected a valid integer, found 2.5"),
        ("train.epochs", 0, "expected greater than or equal to 1, found 0"),
        ("train.dropout", True, "expected a valid number, found true"),
        ("train.optimizer", "lion", "expected 'adamw', 'adam' or 'sgd', found \"lion\""),
        ("encode.augment.flip", "yes", 'expected a valid boolean, found "yes"'),
        ("data.split.test", 1.0, "expected less than 1, found 1.0"),
        ("export.alias", None, "expected a valid string, found null"),
    ],
)
def test_wrong_type_is_located(changed, name, value, expected):
    check_error(changed(f"flowers.{name}", value), f"flowers.{name}: {expected}")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("train.learning_rat", "learning_rate"),
        ("encode.augment.rotaton", "rotation"),
        ("train.search.trails", "trials"),
        ("evalute", "evaluate"),
        ("epochs", "train.epochs"),
    ],
)
def test_unknown_name_gets_a_suggestion(changed, name, nearest):
    parent, _, last = f"flowers.{name}".rpartition(".")
    section = reduce(getitem, parent.split("."), params.read(REPOSITORY / "params.yaml"))
    path = changed(parent, {**section, last: 1})
    check_error(path, f"flowers.{name}: unknown name; did you mean {nearest!r}?")


def test_misspelt_name_is_reported_once(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((REPOSITORY / "params.yaml").read_text().replace("label_smoothing:", "label_smothing:"))
    check_error(path, "flowers.train.label_smothing: unknown name; did you mean 'label_smoothing'?")


def test_every_problem_gets_a_line(changed):
    path = changed("flowers.evaluate", {"top_k": "five", "resamples": 10, "gallery": -1})
    with pytest.raises(ParamsError) as caught:
        load_pipeline("flowers", path)
    assert str(caught.value).splitlines() == [
        f'{path}: flowers.evaluate.top_k: expected a valid integer, found "five"',
        f"{path}: flowers.evaluate.gallery: expected greater than or equal to 0, found -1",
    ]


def test_shares_must_leave_some_for_train(changed):
    message = "flowers.data.split: valid and test together must leave a share for train (below 1)"
    check_error(changed("flowers.data.split.valid", 0.99), message)


def test_unknown_section_gets_a_suggestion(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((REPOSITORY / "params.yaml").read_text() + "\nflower: {}\n")
    check_error(path, "unknown section 'flower'; did you mean 'flowers'?")


def test_a_section_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("pipelines: {flowers: image}\nflowers: 3")
    check_error(path, "flowers: expected a section with data, encode, train, evaluate, export, found 3")


@pytest.mark.parametrize(
    ("name", "hint"), [("birds", "known are flowers, reviews"), ("flower", "did you mean 'flowers'?")]
)
def test_unknown_pipeline_gets_a_suggestion(changed, name, hint):
    with pytest.raises(ParamsError, match=re.escape(f"no pipeline '{name}' under `pipelines:`; {hint}")):
        load_pipeline(name, changed("pipelines.flowers", "image"))


@pytest.mark.parametrize("kind", ["sound", None, 3, ["image"]])
def test_unknown_kind_lists_known_ones(changed, kind):
    with pytest.raises(
        ParamsError, match=rf"pipelines\.flowers: expected one of image.*, found {re.escape(repr(kind))}"
    ):
        load_pipeline("flowers", changed("pipelines.flowers", kind))


def test_a_misspelt_kind_gets_a_suggestion(changed):
    check_error(
        changed("pipelines.flowers", "imge"),
        "pipelines.flowers: expected one of image, text, found 'imge'; did you mean 'image'?",
    )


@pytest.mark.parametrize("text", ["", "3", "- flowers", "pipelines:", "pipelines: image"])
def test_file_without_pipelines_gets_an_example(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    check_error(path, "expected `pipelines:` with a name and its kind, such as `flowers: image`")


def test_missing_or_broken_file_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    check_error(path, "not found; run this in the project's folder")
    path.write_text("pipelines: {flowers: image")
    with pytest.raises(ParamsError, match=r"params\.yaml: not valid YAML in UTF-8: .*line 1"):
        params.read(path)


@pytest.mark.parametrize(
    ("name", "candidates", "expected"),
    [
        ("learning_rat", [0.1], "train: search.space: unknown parameter 'learning_rat'; did you mean 'learning_rate'?"),
        ("dropout", [0.2, "half"], "train: search.space.dropout: input should be a valid number, found 'half'"),
        ("dropout", {"low": 0.1, "high": 1.5}, "train: search.space.dropout: input should be less than 1, found 1.5"),
        (
            "hidden_units",
            [[], [0]],
            "train: search.space.hidden_units: input should be greater than or equal to 1, found [0]",
        ),
        ("dropout", {"low": 0.5, "high": 0.1}, "train.search.space.dropout: low (0.5) must be below high (0.1)"),
        (
            "dropout",
            {"low": 0.0, "high": 0.1, "log": True},
            "train.search.space.dropout: a log range must start above 0, found 0.0",
        ),
        ("dropout", {"low": 0.1, "hihg": 0.2}, "train.search.space.dropout.hihg: unknown name; did you mean 'high'?"),
        ("dropout", {"low": 0.1}, "train.search.space.dropout.high: missing; give it a value"),
        ("dropout", {"low": True, "high": 2}, "train.search.space.dropout.low: expected a number, found true"),
        ("dropout", [], "train.search.space: dropout has no choices"),
        ("dropout", 0.3, "train.search.space.dropout: expected a valid list, found 0.3"),
    ],
)
def test_invalid_search_space_is_refused(changed, name, candidates, expected):
    check_error(changed(SPACE, {name: candidates}), f"flowers.{expected}")


@pytest.mark.parametrize("name", ["seed", "search"])
def test_seed_and_search_are_not_searchable(changed, name):
    with pytest.raises(ParamsError, match=rf"search\.space: unknown parameter '{name}'"):
        load_pipeline("flowers", changed(SPACE, {name: [1, 2]}))


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E5", 1e5), ("-2e+2", -200.0), (".5", 0.5), ("1.", 1.0), ("3", 3), ("-3", -3), ("1e", "1e")],
)
def test_numbers_are_read_as_in_yaml_1_2(tmp_path, text, value):
    path = tmp_path / "params.yaml"
    path.write_text(f"pipelines: {{flowers: image}}\nflowers: {text}\n")
    number = params.read(path)["flowers"]
    assert number == value and type(number) is type(value)


def test_parameters_have_dotted_names(changed):
    named = load_pipeline("flowers", changed("flowers.train.hidden_units", [512, 64])).parameters()
    assert named["train.hidden_units"] == [512, 64]
    assert named["encode.augment.flip"] is True
    assert {name.split(".")[0] for name in named} == {"data", "encode", "train", "evaluate", "export"}


def test_with_values_replaces_values(train):
    point = train.with_values({"dropout": 0.25, "hidden_units": [7]})
    assert (point.dropout, point.hidden_units) == (0.25, [7])
    assert point.model_copy(update={"dropout": train.dropout, "hidden_units": train.hidden_units}) == train


def test_space_may_name_a_part_of_a_section(changed):
    train = load_pipeline("flowers", changed(SPACE, {"augment.smallest_crop": [0.3, 0.5]})).train
    assert train.with_values({"augment.smallest_crop": 0.3}).augment.smallest_crop == 0.3
    assert train.with_values({"augment.smallest_crop": 0.3}).augment.flip == train.augment.flip
    assert train.value("augment.smallest_crop") == 0.4


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (
            {"augment.smalest_crop": [0.3]},
            "unknown parameter 'augment.smalest_crop'; did you mean 'augment.smallest_crop'",
        ),
        (
            {"augment.smallest_crop": [0.0]},
            "search.space.augment.smallest_crop: input should be greater than 0, found 0.0",
        ),
        ({"augment": [{}]}, "unknown parameter 'augment'"),
        ({"seed": [0, 1]}, "unknown parameter 'seed'"),
    ],
)
def test_wrong_part_of_a_section_is_named(changed, space, expected):
    with pytest.raises(ParamsError, match=re.escape(expected)):
        load_pipeline("flowers", changed(SPACE, space))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("flowers.train.search.head_trials", 8, "search.head_trials (8) must be below search.trials (8)"),
        ("flowers.train.search.head_trials", 2, "flowers.train.search.head_trials: every trial is one of a head"),
        ("flowers.train.ensemble", 9, "at most as many networks as train.search.trials (8), found 9"),
        ("flowers.train.ensemble", 0, "expected greater than or equal to 1, found 0"),
        ("flowers.train.backbone", "vgg16", "'vgg16' is not among those of encode.backbone (tf_efficientnet_lite0)"),
        ("flowers.train.search.space.backbone", ["vgg16"], "'vgg16' is not among those of encode.backbone"),
    ],
)
def test_what_does_not_fit_together_is_one_line(changed, name, value, expected):
    parent, _, last = name.rpartition(".")
    if parent == SPACE:
        name, value = SPACE, {last: value}
    with pytest.raises(ParamsError, match=re.escape(expected)) as raised:
        load_pipeline("flowers", changed(name, value))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ensemble", 2, "expected 1, found 2; networks for texts are combined by `network: blend`"),
        ("search", {"trials": 6, "prune": False, "head_trials": 2, "space": {}}, "no part of these networks is frozen"),
    ],
)
def test_texts_have_blends_instead(name, value, expected):
    sections = params.read(REPOSITORY / "params.yaml")["reviews"]
    sections["train"][name] = value
    with pytest.raises(ParamsError, match=re.escape(expected)):
        checked_pipeline("reviews", "text", sections, path=params.PARAMS_FILE)


@pytest.mark.parametrize("point", [{"dropout": 1.0}, {"epochs": 2.5}, {"droput": 0.5}])
def test_with_values_checks_values(train, point):
    with pytest.raises(ValidationError):
        train.with_values(point)


def test_section_is_frozen(train):
    with pytest.raises(ValidationError, match="frozen"):
        train.epochs = 3


@pytest.mark.parametrize("alias", ["latest", "v3", "a/b", ""])
def test_reserved_or_invalid_alias_is_refused(changed, alias):
    with pytest.raises(ParamsError, match=r"flowers\.export\.alias"):
        load_pipeline("flowers", changed("flowers.export.alias", alias))


def test_params_must_be_utf_8(tmp_path):
    (tmp_path / "params.yaml").write_bytes("pipelines: {café: image}".encode("latin-1"))
    with pytest.raises(ParamsError, match="not valid YAML in UTF-8"):
        load_pipeline("flowers", tmp_path / "params.yaml")
