"""The package that pip installs."""

import tomllib
from fnmatch import fnmatch

from tests.support.project import REPOSITORY


def test_data_files_are_in_the_wheel():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    files = [path for path in REPOSITORY.glob("flowerml/**/*") if path.is_file() and "__pycache__" not in path.parts]
    data = [path.name for path in files if path.suffix != ".py"]

    assert "py.typed" in data and "defaults.yaml" in data
    assert [name for name in data if not any(fnmatch(name, pattern) for pattern in patterns)] == []
    assert {path.parent for path in files if not (path.parent / "__init__.py").is_file()} == set()
