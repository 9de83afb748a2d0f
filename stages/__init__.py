"""One module for each DVC stage: parse the pipeline's name and call flowerml.pipeline.<stage>.run."""
