"""New projects: the files that `flowerml init` writes, and the move of a project to another version."""
