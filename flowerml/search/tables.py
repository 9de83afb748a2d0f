"""The tables of a search that DVC shows."""

from pathlib import Path

import pandas as pd

from flowerml.core import files
from flowerml.search.search import SearchResult


def write_tables(result: SearchResult, folder: Path) -> None:
    """Write trials.csv (a row for each trial), curves.csv (the best trial's epochs) and search.json (its score)."""
    search = result.search
    best = search.best
    curves = [
        {"epoch": epoch.number, "split": split, "measure": measure, "value": getattr(epoch, f"{split}_{measure}")}
        for split in ("train", "valid")
        for measure in ("loss", "accuracy")
        for epoch in best.epochs
    ]
    folder.mkdir(parents=True, exist_ok=True)
    files.write_csv(folder / "trials.csv", pd.DataFrame([trial.row(search.searched) for trial in search.trials]))
    files.write_csv(folder / "curves.csv", pd.DataFrame(curves).round(6))
    files.write_json(folder / "search.json", result.scores())
