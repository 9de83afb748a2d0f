"""What everything else stands on and what knows nothing of learning: errors, files, locks, URLs, display."""
