"""The hyperparameter search: its study, its trials, its checkpoint."""
