"""What `flowerml train` starts from, inside a project and outside."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from flowerml.config import params
from flowerml.config.defaults import SHIPPED_PARAMS, defaults
from flowerml.core.errors import ParamsError
from flowerml.tasks.pipelines import checked_pipeline

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    return params.read()


def test_texts_search_no_lstm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = checked_pipeline("texts", "text", defaults("text").sections, path=SHIPPED_PARAMS).train
    assert train.network is None
    assert set(train.searched()) & {"learning_rate", "dropout"} == set()
    assert train.search.trials > 1


def test_params_of_a_project_win(project):
    sections = defaults("text").sections
    assert sections["encode"] == project["reviews"]["encode"]
    assert sections["train"]["smoothing"] == project["reviews"]["train"]["smoothing"]


def test_the_search_of_a_project_is_the_shipped_one(project):
    shipped = params.read(SHIPPED_PARAMS)
    for kind, name in (("image", "pictures"), ("text", "texts")):
        assert defaults(kind).sections["train"]["search"] == shipped[name]["train"]["search"]
    assert project["reviews"]["train"]["network"] == "blend"
    assert defaults("text").sections["train"]["network"] is None


def test_an_ensemble_of_a_project_is_not_the_default(project):
    sections = project["flowers"]["train"]
    sections |= {"ensemble": 3, "repeats": 2, "refit": True, "learning_rate": 0.5}
    params.PARAMS_FILE.write_text(yaml.safe_dump(project))
    train = defaults("image").sections["train"]
    assert (train["ensemble"], train["repeats"], train["refit"], train["learning_rate"]) == (1, 1, False, 0.5)


def test_the_reviews_of_the_repository_try_an_lstm(project):
    assert "lstm" in project["reviews"]["train"]["search"]["space"]["network"]


def test_an_older_project_has_the_new_parameters_too(project):
    older = params.PARAMS_FILE.read_text()
    params.PARAMS_FILE.write_text(
        "".join(
            line
            for line in older.splitlines(keepends=True)
            if not re.match(r" +(backbone: null|folds|characters):?", line)
        )
    )
    sections = defaults("text").sections
    assert sections["encode"]["backbone"] is None
    assert sections["encode"]["max_words"] == project["reviews"]["encode"]["max_words"]


def test_a_parameter_that_is_gone_is_named(project):
    sections = {**project["reviews"], "train": {**project["reviews"]["train"], "buckets": 1024}}
    with pytest.raises(ParamsError, match=r"reviews.train: `buckets` is gone.*; remove it"):
        checked_pipeline("reviews", "text", sections, path=params.PARAMS_FILE)
