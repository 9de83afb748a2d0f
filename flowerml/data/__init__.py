"""Labelled data: archives, downloads, layouts, splits, and the tables of examples and encodings."""
