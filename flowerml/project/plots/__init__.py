"""Vega templates of the plots in a project's dvc.yaml; a package, so that they are in the wheel."""
