"""What `make install` installs: the versions of constraints.txt, and only files whose hashes are known."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(.*)$", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", name)[0]).lower()


def pins(file: str) -> dict[str, str]:
    return {normalized(name): version for name, version, _ in PIN.findall((REPOSITORY / file).read_text())}


def test_lock_has_the_versions_of_constraints():
    locked, chosen = pins("requirements.lock"), pins("constraints.txt")
    assert {name: locked.get(name) for name in chosen} == chosen


def test_lock_has_all_dependencies():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    wanted = {*project["project"]["dependencies"], *(name for names in extras for name in names)}
    own = {"flowerml"}  # an extra that includes another
    assert {normalized(name) for name in wanted} - own - set(pins("requirements.lock")) == set()


def test_every_pin_has_a_hash():
    blocks = re.split(r"\n(?=\S)", (REPOSITORY / "requirements.lock").read_text().strip())
    assert [block for block in blocks if not PIN.match(block) or not HASH.search(block)] == []


def test_lock_names_no_host():
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert "://" not in lock
    assert not re.search(r"^-", lock, re.MULTILINE)


def test_build_requirements_are_locked():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["build-system"]["requires"] == [f"setuptools=={pins('requirements.lock')['setuptools']}"]
