"""The hyperparameter search: study, trials and checkpoint."""
