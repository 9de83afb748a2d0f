"""`flowerml score`, and the scoring of a split, on Ray and Dask: the bytes are those of one process."""

import importlib.util

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flowerml import Classifier
from flowerml.cli.app import app
from flowerml.pipeline import scored
from tests.pipeline.test_scored import MODEL, table

PACKAGES = {"ray": "ray", "dask": "distributed"}

pytestmark = pytest.mark.engines


@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_a_cluster_gives_the_bytes_of_one_process(tmp_path, monkeypatch, engine):
    if importlib.util.find_spec(PACKAGES[engine]) is None:
        pytest.skip(f"needs {PACKAGES[engine]}")
    texts = [f"good film {number} " + "dull " * (number % 20) if number % 9 else "" for number in range(2000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    examples = table(tmp_path)
    alone = scored.scores(Classifier.load(MODEL), examples, "test")
    score(tmp_path, "one.csv")
    for name in ("FLOWERML_ENGINE", "FLOWERML_WORKERS"):
        monkeypatch.setenv(name, engine if name == "FLOWERML_ENGINE" else "2")
    score(tmp_path, "two.csv")
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    together = scored.scores(Classifier.load(MODEL), examples, "test")
    assert np.array_equal(together.probabilities, alone.probabilities)


def score(folder, out):
    arguments = ["score", folder / "a.parquet", "--model", MODEL, "--out", folder / out]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert "2,000 rows" in result.output, result.output
