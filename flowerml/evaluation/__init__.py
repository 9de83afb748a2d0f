"""How good a classifier is: metrics, intervals, slices and the report."""
