"""A sample of `make faults`: file operations that fail or crash, and what the next run gives."""

import subprocess
import sys

import pytest

from tests.support.faulty_files import Fault, injected
from tests.support.project import REPOSITORY


@pytest.mark.extended
def test_stages_survive_a_sample_of_faults():
    sample = ["--pipelines", "reviews", "--stages", "download", "extract", "encode", "--rounds", "1", "--every", "12"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.faulty_files", *sample],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "encode@reviews EIO" in " ".join(done.stdout.split())


def test_fault_strikes_once_at_its_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fault = Fault(tmp_path, "EIO", 2)
    with injected(fault):
        (tmp_path / "a").write_text("a")
        with pytest.raises(OSError):
            (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").rename(tmp_path / "b")
    assert fault.operations == ["open", "write", "rename", "rename"]


def test_full_disk_lasts_and_lets_files_be_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").touch()
    with injected(Fault(tmp_path, "ENOSPC", 0)):
        for _ in range(2):
            with pytest.raises(OSError):
                (tmp_path / "b").mkdir()
        (tmp_path / "a").unlink()
    assert list(tmp_path.iterdir()) == []
