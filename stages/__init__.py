"""One short module for each DVC stage: read the parameters, call the package, write files."""
