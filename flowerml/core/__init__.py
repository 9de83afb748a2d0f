"""The foundation, free of machine learning: errors, files, locks, fingerprints, URLs and text for people."""
