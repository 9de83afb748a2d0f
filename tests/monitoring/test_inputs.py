"""Inputs kept beside the prediction log: which, for whom, and how many."""

import os

import pytest

from flowerml.core.errors import FlowermlError
from flowerml.monitoring.inputs import BLOCK, Inputs, inputs_folder, kept_input
from flowerml.monitoring.record import digest


@pytest.fixture
def log(tmp_path):
    return tmp_path / "predictions.jsonl"


def inputs(log, *, share=1.0, size=10**6):
    return Inputs(inputs_folder(log), share=share, size=size)


@pytest.mark.parametrize("raw", [b"\xff\xd8", "ein schönes Bild", "a lone \ud800"])
def test_a_kept_input_is_read_by_its_digest(log, raw):
    inputs(log).keep(raw, digest(raw))
    content = kept_input(log, digest(raw))
    assert content == (raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass"))


def test_the_same_share_is_chosen_on_every_server(log, tmp_path):
    digests = [digest(str(number)) for number in range(1000)]
    chosen = [name for name in digests if inputs(log, share=0.2).is_chosen(name)]
    assert 150 < len(chosen) < 250
    assert chosen == [name for name in digests if inputs(tmp_path / "else.jsonl", share=0.2).is_chosen(name)]
    assert all(inputs(log).is_chosen(name) for name in digests)


def test_only_the_owner_may_read_them(log):
    inputs(log).keep(b"secret", digest(b"secret"))
    folder = inputs_folder(log)
    assert [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())] == [0o700, 0o600]


def test_the_oldest_give_way_to_the_newest(log):
    kept = inputs(log, size=64 * BLOCK)
    for number in range(200):
        kept.keep(str(number), digest(str(number)))
        path = inputs_folder(log) / digest(str(number))
        os.utime(path, (number, number))
        assert len(list(inputs_folder(log).iterdir())) <= 64
    assert kept_input(log, digest("199")) == b"199" and kept_input(log, digest("0")) is None


def test_a_full_disk_leaves_nothing_of_an_input(log, limit_file_size):
    kept = inputs(log)
    limit_file_size(100)
    with pytest.raises(OSError, match="too large"):
        kept.keep(b"x" * 200, digest(b"x" * 200))
    assert list(inputs_folder(log).iterdir()) == []


def test_a_changed_input_is_none(log):
    inputs(log).keep(b"a", digest(b"a"))
    (inputs_folder(log) / digest(b"a")).write_bytes(b"b")
    assert kept_input(log, digest(b"a")) is None
    assert kept_input(log, "../predictions.jsonl") is None


def test_a_folder_that_cannot_be_made_is_one_line(log):
    inputs_folder(log).write_text("")
    with pytest.raises(FlowermlError, match="inputs cannot be kept"):
        inputs(log)
