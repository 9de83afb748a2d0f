"""The prediction log: its lines, two that write it, a full disk, rotation, and what a stranger may have written."""

import fcntl
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given

from flowerml.core.errors import DataError, FlowermlError, ModelError
from flowerml.monitoring.lines import MAX_LINE, from_line, to_line
from flowerml.monitoring.log import Damage, Log, read
from flowerml.monitoring.record import Record, digest
from tests.support.properties import changed, changes, few

RECORD = Record(
    time=1764400000.123,
    request="5f",
    model="flowers",
    version="3",
    digest=digest(b"a picture"),
    top=(("rose", 0.93), ("a \n line", 0.0)),
    known=True,
    out_of_distribution=0.0,
    properties={"brightness": 0.41, "shape": "wide"},
    features=(0.7, -1e-9),
)
ERROR = Record(time=2.0, request="", model="flowers", version=None, digest="", error="empty_text")
FEW = 2**16  # bytes; the smallest file of a log


def record(number, **values):
    return Record(time=float(number), request=str(number), model="flowers", version="1", digest="", **values)


def numbers(source, damage=None):
    return [int(record.time) for record in read(source, damage)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "predictions.jsonl"


@pytest.mark.parametrize("written", [RECORD, ERROR])
def test_a_record_is_read_as_written(path, written):
    Log(path).append([written])
    assert list(read(path)) == [written]


def test_numbers_that_are_none_are_left_out():
    line = to_line(record(1, properties={"brightness": float("nan")}, features=(float("inf"), 1.0)))
    assert (from_line(line).properties, from_line(line).features) == ({}, ())


def test_a_record_too_long_to_read_is_not_written():
    with pytest.raises(ValueError, match="found 1"):
        to_line(record(1, properties={"text": "x" * 100_000}))


def test_writers_lose_no_line_while_they_rotate(path):
    logs = [Log(path, size=FEW, files=100) for _ in range(4)]

    def write(writer):
        for batch in range(25):
            logs[writer].append(record(1000 * writer + 10 * batch + line, error="x" * 200) for line in range(10))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    damage = Damage()
    assert sorted(numbers(path, damage)) == [1000 * writer + line for writer in range(4) for line in range(250)]
    assert damage.count == 0
    assert len(list(path.parent.iterdir())) > 3


def test_a_writer_waits_for_the_rotation_of_another(path):
    log = Log(path)
    with ThreadPoolExecutor(1) as pool, path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        appended = pool.submit(log.append, [record(1)])
        time.sleep(0.05)
        path.rename(path.with_name(f"{path.name}.1"))
        assert not appended.done()
        fcntl.flock(other, fcntl.LOCK_UN)
        appended.result()
    assert path.with_name(f"{path.name}.1").read_bytes() == b""
    assert path.read_bytes() == to_line(record(1))


def test_a_writer_does_not_wait_for_ever(path, monkeypatch):
    monkeypatch.setattr("flowerml.monitoring.log.WAITING", 0.01)
    log = Log(path)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="does not release it"):
            log.append([record(1)])


def test_the_size_of_a_log_is_bounded(path):
    log = Log(path, size=FEW, files=3)
    for number in range(60):
        log.append([record(number, error="x" * 900) for _ in range(10)])
    sizes = [file.stat().st_size for file in path.parent.iterdir()]
    assert len(sizes) == 3 and max(sizes) <= FEW
    assert numbers(path)[-1] == 59 and numbers(path) == sorted(numbers(path))


def test_a_single_file_is_started_anew(path):
    log = Log(path, size=FEW, files=1)
    for number in range(100):
        log.append([record(number, error="x" * 900)])
    assert len(list(path.parent.iterdir())) == 1 and numbers(path)[-1] == 99


def test_files_beyond_a_lower_number_are_removed(path):
    for number in (1, 2, 7):
        path.with_name(f"{path.name}.{number}").write_bytes(to_line(record(number)))
    path.write_bytes(to_line(record(8)).ljust(FEW, b"\n"))
    Log(path, size=FEW, files=3).append([record(9)])
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.1", f"{path.name}.2"]


def test_the_half_line_of_a_killed_writer_spoils_no_other(path):
    path.write_bytes(to_line(record(1)) + to_line(RECORD)[:-20])
    Log(path).append([record(3)])
    damage = Damage()
    assert numbers(path, damage) == [1, 3]
    assert damage.count == 1 and damage.first.startswith("predictions.jsonl, line 2: ")


def test_a_full_disk_leaves_no_part_of_a_line(path, limit_file_size):
    log = Log(path)
    log.append([record(1)])
    limit_file_size(path.stat().st_size + 100)
    with pytest.raises(OSError, match="too large"):
        log.append([record(2), record(3)])
    limit_file_size(10**6)
    log.append([record(4)])
    damage = Damage()
    assert (numbers(path, damage), damage.count) == ([1, 4], 0)


def test_a_log_that_was_moved_away_begins_anew(path):
    log = Log(path)
    log.append([record(1)])
    path.rename(path.with_name("archived.jsonl"))
    log.append([record(2)])
    assert numbers(path) == [2]


def test_a_link_stays_a_link(tmp_path, path):
    path.symlink_to(tmp_path / "real.jsonl")
    log = Log(path, size=FEW)
    for number in range(100):
        log.append([record(number, error="x" * 900)])
    assert path.is_symlink() and numbers(tmp_path / "real.jsonl") == list(range(100))


def test_a_log_is_read_whole_while_it_is_rotated(path):
    log = Log(path, size=FEW, files=5)
    log.append(record(number, error="x" * 900) for number in range(100))
    records = read(path)
    first = next(records)
    log.append(record(number, error="x" * 900) for number in range(100, 140))
    times = [first.time, *(record.time for record in records)]
    assert all(after - before == 1 for before, after in pairwise(times)) and times[0] == 0 and times[-1] >= 99


def test_several_logs_are_merged_by_time(tmp_path):
    for name, times in (("a.jsonl.1", (1, 4)), ("a.jsonl", (6,)), ("b.jsonl", (2, 5)), ("notes.txt", (3,))):
        (tmp_path / name).write_bytes(b"".join(to_line(record(time)) for time in times))
    (tmp_path / "a.jsonl.inputs").mkdir()
    assert numbers(tmp_path) == numbers(f"{tmp_path}/*.jsonl") == [1, 2, 4, 5, 6]
    assert numbers(tmp_path / "a.jsonl") == [1, 4, 6]


def test_a_period_of_a_log_is_read(path):
    Log(path).append(record(number) for number in range(6))
    path.write_bytes(path.read_bytes() + b'{"model": "flowers", "time": 7}\n')
    assert [record.time for record in read(path, since=2, until=4)] == [2, 3]
    assert [record.time for record in read(path, since=5)] == [5, 7]


def test_no_log_is_an_error_that_names_the_nearest(path):
    Log(path)
    with pytest.raises(DataError, match=r"did you mean 'predictions\.jsonl'"):
        read(path.with_name("prediction.json"))


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_at_once(path, make):
    make(path)
    with pytest.raises(FlowermlError, match="cannot be written"):
        Log(path)


def test_a_file_that_is_no_log_is_left_alone(path):
    path.write_text('{"classes": []}')
    with pytest.raises(FlowermlError, match="found a file of another kind"):
        Log(path)
    assert path.read_text() == '{"classes": []}'


def test_the_folder_of_a_log_is_made(path):
    log = path.parent / "new" / path.name
    Log(log).append([record(1)])
    assert numbers(log) == [1]


LINE = to_line(RECORD)


@pytest.mark.parametrize(
    "line",
    [
        b"null\n",
        b"[]\n",
        b"{}\n",
        LINE.replace(b"0.93", b"1.93"),
        LINE.replace(b"0.93", b"NaN"),
        LINE.replace(b'"flowers"', b"7"),
        LINE.replace(b"1764400000.123", b"1e999"),
        LINE.replace(b"0.41", b"[0.41]"),
        LINE.replace(b'"digest":"', b'"digest":"../'),
        LINE.replace(b'"known":true', b'"known":1'),
        LINE.replace(b'"model"', b'"time":1,"model"'),
        LINE.replace(b"rose", b"\xff"),
        b"[" * 60_000 + b"\n",
        b"\0" * (3 * MAX_LINE) + b"\n",
    ],
)
def test_a_line_that_is_no_record_is_skipped_and_counted(path, line):
    path.write_bytes(to_line(record(1)) + line + to_line(record(2)))
    damage = Damage()
    assert (numbers(path, damage), damage.count) == ([1, 2], 1)


@few
@given(changes)
def test_a_damaged_line_is_a_record_or_refused(made):
    try:
        read = from_line(changed(LINE, made))
    except ModelError:
        return
    assert from_line(to_line(read)).digest == read.digest
