"""MLflow runs that survive a dead server, and the lineage they record."""
