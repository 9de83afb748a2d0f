"""The kinds of classification, and the protocols that a new kind implements."""
