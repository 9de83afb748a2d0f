"""What `make install` installs: the versions of constraints.txt, and only files whose hashes are known."""

import re
import subprocess
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


def recipe(*variables: str) -> list[str]:
    """Return the commands of `make install`, without running them."""
    command = ["make", "--dry-run", "--always-make", "install", *variables]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()


def test_torch_comes_from_the_lock_by_default():
    commands = recipe()
    assert "cat requirements.lock > .venv/files.lock" in commands
    assert not any("--index-url" in command or "awk" in command for command in commands)


def test_torch_for_cpus_replaces_what_needs_cuda():
    commands = recipe("TORCH_INDEX=https://example.com/cpu")
    (filtering,) = (command.partition(" > ")[0] for command in commands if command.startswith("awk "))
    kept = subprocess.run(filtering, shell=True, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    left_out = set(pins("requirements.lock")) - {normalized(name) for name, _, _ in PIN.findall(kept)}
    assert {"torch", "torchvision", "triton"} < left_out
    assert all(re.match(r"(torch|torchvision|triton)$|(nvidia|cuda)-", name) for name in left_out)
    assert not re.search(r"nvidia|cuda-", kept)


def test_torch_for_cpus_has_the_version_of_the_lock():
    (step,) = (command for command in recipe("TORCH_INDEX=https://example.com/cpu") if "--index-url" in command)
    index, _, names = step.partition(" --index-url ")[2].partition(" ")
    wanted = subprocess.run(f"echo {names}", shell=True, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    versions = pins("requirements.lock")
    assert index == '"https://example.com/cpu"' and "--no-deps" in step
    assert wanted.stdout.split() == [f"{name}=={versions[name]}" for name in ("torch", "torchvision")]
