import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowerml.core import files
from flowerml.core.errors import DownloadError
from tests.support.downloading import CONTENT, NAME, SHA256, begin, fetch, fetched, refused
from tests.support.file_server import LAST_MODIFIED, Response, serving


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "kept" / NAME


def test_cut_download_is_resumed(target, capsys):
    assert fetched(target, Response(cut=100_000), Response()) == [None, 100_000]
    assert (
        f"{NAME}: the connection failed: it was cut (after 100kB of 256kB); retrying in 0.01 s"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("tag", [{}, {"ETag": None}, {"ETag": 'W/"1"'}])
def test_resume_asks_for_a_strong_tag(target, tag):
    with serving({NAME: CONTENT}, {NAME: [Response(cut=100_000, headers=tag), Response(headers=tag)]}) as server:
        fetch(server.url(NAME), target)
    condition = server.requests[1].headers["If-Range"]
    assert condition == LAST_MODIFIED if tag else condition.startswith('"')
    assert server.requests[1].start == 100_000


def test_resume_without_a_tag(target, tmp_path):
    assert fetched(target, Response(cut=100_000, tags=False), Response(tags=False)) == [None, None]
    verified = tmp_path / "other" / NAME
    cut = Response(cut=100_000, tags=False)
    assert fetched(verified, cut, Response(tags=False), checksum=SHA256) == [None, 100_000]


def test_next_call_resumes(target):
    with serving({NAME: CONTENT}) as server:
        begin(server, target)
        fetch(server.url(NAME), target)
    assert [request.start for request in server.requests] == [100_000]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_killed_download_is_resumed(target, kill):
    part = target.with_name(f"{NAME}.part")
    # A process started in the background ignores Ctrl-C by default.
    code = """if True:
        import signal, sys, pathlib, flowerml.data.download
        signal.signal(signal.SIGINT, signal.default_int_handler)
        flowerml.data.download.download(sys.argv[1], pathlib.Path(sys.argv[2]))"""
    with serving({NAME: CONTENT}, {NAME: [Response(pace=0.03, piece=3000), Response()]}) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url(NAME), target], stderr=subprocess.DEVNULL)
        while process.poll() is None and (not part.exists() or part.stat().st_size == 0):
            time.sleep(0.01)
        process.send_signal(kill)
        assert process.wait() == -kill
        left = part.stat().st_size
        fetch(server.url(NAME), target, checksum=SHA256)
    assert not part.exists()
    assert 0 < left < len(CONTENT) and left % 3000 == 0 and server.requests[1].start == left


@pytest.mark.parametrize("second", [Response(ranges=False), Response(headers={"ETag": '"other"'})])
def test_whole_file_in_answer_to_a_range(target, second):
    assert fetched(target, Response(cut=100_000), second) == [None, 100_000]


@pytest.mark.parametrize(
    "second",
    [
        Response(shift=-5),
        Response(shift=5),
        Response(total=300_000),
        Response(416),
        Response(headers={"Content-Range": "lines 1-2"}),
        Response(headers={"Content-Range": None}),
    ],
)
def test_wrong_range_restarts(target, second):
    assert fetched(target, Response(cut=100_000), second, Response()) == [None, 100_000, None]


def test_206_with_another_tag(target):
    lying = Response(206, {"Content-Range": "bytes 100000-255999/256000", "ETag": '"2"'}, body=CONTENT[100_000:])
    assert fetched(target, Response(cut=100_000), lying, Response()) == [None, 100_000, None]


def test_short_206_is_continued(target):
    some = Response(206, {"Content-Range": "bytes 100000-149999/256000"}, body=CONTENT[100_000:150_000])
    assert fetched(target, Response(cut=100_000), some, Response()) == [None, 100_000, 150_000]


def test_unrequested_206_is_refused(target):
    some = Response(206, {"Content-Range": "bytes 0-9/256000"}, body=CONTENT[:10])
    message, requests = refused(target, some)
    assert "a part of the file, and the whole was requested" in message and requests == 3


def test_part_longer_than_the_file(target):
    with serving({NAME: CONTENT}) as server:
        begin(server, target)
        target.with_name(f"{NAME}.part").write_bytes(CONTENT + b"more")
        fetch(server.url(NAME), target)
    assert target.read_bytes() == CONTENT


def test_changed_file_is_not_mixed(target):
    with serving({NAME: CONTENT}) as server:
        begin(server, target)
        server.files[NAME] = CONTENT[::-1]
        fetch(server.url(NAME), target)
    assert target.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("notes", ["", "[]", '{"url": 1}', '{"url": "http://127.0.0.1/b.bin", "etag": "1", "size": 9}'])
def test_part_of_unknown_origin(target, notes):
    target.parent.mkdir()
    target.with_name(f"{NAME}.part").write_bytes(b"123")
    target.with_name(f"{NAME}.part.json").write_text(notes)
    assert fetched(target) == [None]


@pytest.mark.parametrize("nonsense", [{"size": "9"}, {"etag": 3}, {"last_modified": [1]}, {"more": 1}])
def test_invalid_info_discards_the_part(target, nonsense):
    with serving({NAME: CONTENT}) as server:
        begin(server, target)
        notes = target.with_name(f"{NAME}.part.json")
        files.write_json(notes, files.read_json(notes) | nonsense)
        fetch(server.url(NAME), target)
    assert server.requests[0].start is None and target.read_bytes() == CONTENT


def test_complete_part_is_moved(target):
    with serving({NAME: CONTENT}) as server:
        begin(server, target)
        target.with_name(f"{NAME}.part").write_bytes(CONTENT)
        fetch(server.url(NAME), target, checksum=SHA256)
    assert target.read_bytes() == CONTENT and server.requests == []


@pytest.mark.parametrize("status", [202, 408, 425, 429, 500, 503])
def test_transient_status_is_retried(target, status):
    assert fetched(target, Response(status), Response(status), Response()) == [None] * 3


def test_retry_after_is_honoured(target, capsys):
    began = time.monotonic()
    fetched(target, Response(503, {"Retry-After": "1"}), Response())
    assert time.monotonic() - began > 1
    assert "503 Service Unavailable; retrying in 1 s (attempt 2 of 3)" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "Wed, 01 Jan 2020 00:00:00 GMT"])
def test_invalid_retry_after_is_ignored(target, value):
    fetched(target, Response(503, {"Retry-After": value}), Response())


@pytest.mark.parametrize(
    "status, words", [(404, "404 Not Found"), (403, "403 Forbidden (a login is read from ~/.netrc)")]
)
def test_permanent_status_is_not_retried(target, status, words):
    message, requests = refused(target, Response(status))
    assert words in message and requests == 1


def test_pauses_double(target, capsys):
    message, requests = refused(target, Response(500), attempts=4)
    assert requests == 4 and "500 Internal Server Error, given up after 4 attempts in a row" in message
    waits = [line.split(" in ")[1].split()[0] for line in capsys.readouterr().err.splitlines() if "retrying" in line]
    assert waits == ["0.01", "0.02", "0.04"]


@pytest.mark.parametrize(
    "second, words", [(Response(stall=0), "nothing came for 0.5 s"), (Response(pace=0.1, piece=1), " bytes came in ")]
)
def test_silent_or_slow_server(target, second, words):
    message, requests = refused(target, second, attempts=2, timeout=0.5)
    assert words in message and requests == 2


def test_stalled_download_is_resumed(target):
    starts = fetched(target, Response(stall=100_000), Response(), timeout=1.0)
    assert starts[:2] == [None, 100_000]


def test_progress_resets_the_attempts(target):
    assert len(fetched(target, *[Response(cut=20_000)] * 12, Response(), attempts=2)) == 13


def test_one_byte_is_no_progress(target):
    message, requests = refused(target, Response(cut=100_000), Response(cut=1))
    assert "it was cut (after 100kB of 256kB), given up after 3 attempts in a row" in message and requests == 3


def test_length_that_is_too_long(target):
    message, requests = refused(target, Response(lie=1000))
    assert "it was cut (after 256kB of 257kB)" in message and requests < 10


def test_length_that_is_too_short(target):
    message, _ = refused(target, Response(lie=-1000), checksum=SHA256)
    assert f"expected {SHA256}, found " in message and message.count("twice") == 1


def test_cut_chunked_body(target):
    message, requests = refused(target, Response(chunked=True, cut=100_000, ranges=False))
    assert "it was cut (after 100kB)" in message and requests == 3


def test_unreachable_host_message(target):
    with serving({}) as server, pytest.raises(DownloadError) as raised:
        server.stop()
        fetch(server.url(NAME), target, alternative="or set flowers.data.source to sample")
    assert str(raised.value) == (
        f"{server.url(NAME)}: the connection failed: Connection refused, given up after 3 attempts in a row; "
        f"put the file at {target} yourself, or set flowers.data.source to sample"
    )


def test_redirect_loop_ends(target):
    message, requests = refused(target, Response(302, {"Location": f"/{NAME}"}))
    assert "more than 10 redirects" in message and requests == 11


@pytest.mark.parametrize("location", ["ftp://host/a", "file:///etc/passwd", "http://["])
def test_invalid_redirect_is_refused(target, location):
    message, requests = refused(target, Response(302, {"Location": location}))
    assert "not a usable address or response" in message and requests == 1
