"""What the lineage of a run says of a pipeline."""

from flowerml.config.pipeline import Pipeline
from flowerml.tasks.registry import task_of
from flowerml.tracking.lineage import Origin


def origin_of(pipeline: Pipeline) -> Origin:
    """Return where a pipeline's results come from, as `flowerml.tracking.lineage` records it."""
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
