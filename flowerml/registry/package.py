"""The code that a registered model carries: the part of flowerml that predicts, in two files.

Each file of a model is a request to the artifact store at every load, and there would be 150 of them. MLflow puts
only the folder `code` on the path, and no archive in it. So `code` has a package flowerml with the package's own
__init__.py, whose last line names the archive beside it as the place of its modules; Python imports from archives.
"""

import zipfile
from pathlib import Path

from flowerml.config.paths import PACKAGE

# The subpackages that a served model imports.
SERVED_ROOMS = ("core", "data", "engine", "config", "tasks", "classifier", "serving")
ARCHIVE = "modules.zip"
# Appended to __init__.py, which imports nothing of the package until a name of it is asked for.
SEARCH_PATH = f"""
# This copy came with a registered model: all modules are in {ARCHIVE}, as each file would be a request to S3.
__path__ = [__file__.removesuffix("__init__.py") + "{ARCHIVE}"]
"""
TIME = (1980, 1, 1, 0, 0, 0)  # of each file in the archive: the same code gives the same bytes


def write_package(folder: Path) -> Path:
    """Write what a served model imports of flowerml as a package in `folder`; return the package's folder."""
    target = folder / PACKAGE.name
    target.mkdir()
    init = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    (target / "__init__.py").write_text(init + SEARCH_PATH, encoding="utf-8")
    with zipfile.ZipFile(target / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for room in SERVED_ROOMS:
            for path in sorted((PACKAGE / room).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    entry = zipfile.ZipInfo(path.relative_to(PACKAGE).as_posix(), TIME)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, path.read_bytes())
    return target
