"""params.yaml: its schema, its defaults, a pipeline's sections and paths."""
