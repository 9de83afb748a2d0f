"""The record of what was handed to the registry, for DVC: the same in every registry, and so the same in dvc.lock.

The stage `summary` depends on the folder with the records of all pipelines, which is why it comes after every export.
The version and the gate's decision are in registration.json, which differs from one registry to the next.
"""

from flowerml.config.pipeline import Pipeline
from flowerml.core import files


def write(pipeline: Pipeline, *, weights_digest: str) -> None:
    """Write the record of a pipeline's export: the weights, their metrics on test, and the parameters of the gate."""
    record = {
        "weights_digest": weights_digest,
        "metrics": files.read_json(pipeline.paths.reports / "metrics.json"),
        "export": pipeline.export.model_dump(),
    }
    files.write_json(pipeline.paths.exported, record)
