"""The saved classifier: the only thing that predicts."""
