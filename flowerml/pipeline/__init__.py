"""The six stages of a pipeline, one module each, and the ways to run them without DVC."""
