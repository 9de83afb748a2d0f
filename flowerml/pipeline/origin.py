"""The facts about a pipeline that the lineage of a run records."""

from flowerml.config.pipeline import Pipeline
from flowerml.tasks.registry import task_of
from flowerml.tracking.lineage import Origin


def origin_of(pipeline: Pipeline) -> Origin:
    """Return the origin of a pipeline's results, for `flowerml.tracking.lineage`."""
    task = task_of(pipeline)
    return Origin(
        pipeline=pipeline.name,
        kind=pipeline.kind,
        paths=pipeline.paths,
        source=pipeline.data.source,
        column=task.INPUT,
        raw=task.RAW,
        sections=pipeline.sections(),
    )
