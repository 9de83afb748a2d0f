"""The kinds of classification there are, and what a new one has to offer."""
