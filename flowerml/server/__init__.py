"""`flowerml serve`: classifiers over HTTP, kept up to date with the registry, within bounds of load."""
