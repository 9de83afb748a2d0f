"""Looking up ids in a sorted table: torch, NumPy and the graph agree."""

import numpy as np
import onnxruntime
import pytest
import torch

from flowerml.engine import onnx
from flowerml.tasks.text.networks.lookup import LARGEST, Lookup, find_rows

RNG = np.random.default_rng(0)
TABLES = {
    "none": [],
    "one": [7],
    "ends": [0, 1, LARGEST - 1],
    "crowded": range(1000, 1300),
    "spread": np.unique(RNG.integers(0, LARGEST, 3000)),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_each_id_has_its_row_and_others_none(table, tmp_path):
    table = np.array(table, np.int64)
    ids = np.concatenate([table, table + 1, RNG.integers(0, LARGEST, 50), [0, 1, LARGEST]])
    expected = [{id: row for row, id in enumerate(table.tolist())}.get(id, len(table)) for id in ids.tolist()]
    assert find_rows(table, ids).tolist() == expected
    lookup = Lookup(table)
    assert lookup(torch.from_numpy(ids)[None]).tolist() == [expected]

    class Floats(torch.nn.Module):
        def forward(self, ids):
            return lookup(ids).float()

    inputs = {"ids": ids[None]}
    onnx.export(Floats(), tmp_path / "a.onnx", trace=inputs, check=inputs, output="rows")
    rows = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, inputs)[0]
    assert rows.tolist() == [expected]


def test_a_large_table_takes_few_steps():
    assert len(Lookup(np.unique(RNG.integers(0, LARGEST, 100_000))).steps) <= 4
