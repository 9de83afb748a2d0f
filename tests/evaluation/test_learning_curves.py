import math

import pandas as pd
import pytest
from PIL import Image

from flowerml.evaluation import learning_curves


def table(epochs: int, valid: float = 0.5) -> pd.DataFrame:
    """Return a curves.csv of so many epochs."""
    values = {"train": 0.6, "valid": valid}
    return pd.DataFrame(
        {"epoch": epoch, "split": split, "measure": measure, "value": value / epoch}
        for split, value in values.items()
        for measure in ("loss", "accuracy")
        for epoch in range(1, epochs + 1)
    )


@pytest.mark.parametrize(("epochs", "valid"), [(1, 0.5), (5, 0.5), (2, math.nan)])
def test_curves_are_a_picture(tmp_path, epochs, valid):
    learning_curves.draw(table(epochs, valid), tmp_path / "curves.png", best=1)
    assert Image.open(tmp_path / "curves.png").size == (1350, 540)


def test_same_curves_are_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        learning_curves.draw(table(3), tmp_path / name, best=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
