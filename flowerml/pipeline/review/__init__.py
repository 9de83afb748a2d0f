"""What `flowerml review` looks at, and the session that it serves."""

from flowerml.pipeline.review.session import open_session
from flowerml.pipeline.review.subject import Subject, examples_in, of_data, of_examples, of_pipeline, pipeline_named

__all__ = ["Subject", "examples_in", "of_data", "of_examples", "of_pipeline", "open_session", "pipeline_named"]
