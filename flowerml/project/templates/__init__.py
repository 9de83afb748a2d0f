"""Templates of the files of a project; a package, so that they are in the wheel."""
