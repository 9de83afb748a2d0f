import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from flowerml.core import files
from flowerml.core.errors import DownloadError
from flowerml.data.download import is_url, local_path
from tests.support.downloading import CONTENT, NAME, PAGE, SHA256, begin, fetch, fetched, refused
from tests.support.file_server import LAST_MODIFIED, Response, serving


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "kept" / NAME


@pytest.mark.parametrize("source", ["https://host/a.tgz", "HTTP://host", "s3://bucket/key", "gs://b/k", "memory://a"])
def test_urls(source):
    assert is_url(source)


@pytest.mark.parametrize(
    "source", ["sample", "data/a.tgz", "/a//b", "C://pictures", "C:\\a", "file:///a", "https:/a", ""]
)
def test_paths_are_not_urls(source):
    assert not is_url(source)


@pytest.mark.parametrize(
    "url, path",
    [
        ("https://host/a/b.tgz", "host/a/b.tgz"),
        ("https://Host:8080/a%20b.tgz#part", "host_8080/a b.tgz"),
        ("https://user:secret@host/a", "host/a"),
        ("https://host", "host/index"),
        ("https://host/a/", "host/a/index"),
        ("s3://bucket/key.zip", "bucket/key.zip"),
        ("s3://bucket/a%20#1.zip", "bucket/a%20#1.zip"),
        ("abfs://container@account.net/key", "container@account.net/key"),
    ],
)
def test_local_path(url, path):
    assert local_path(url).as_posix() == path


def test_query_is_hashed_before_the_suffix():
    names = {local_path(f"https://host/data.tar.gz?x={x}").name for x in range(3)}
    assert len(names) == 3
    assert all(name.startswith("data-") and name.endswith(".tar.gz") and len(name) == 20 for name in names)


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "..",
        "a/%2e%2e/b",
        "a%2Fb",
        "..%5C..%5Ca",
        "a%00%0A%1B[31m",
        "a:b*",
        "%FF",
        "//a",
        "a ./ .. ",
        "ü" * 300,
    ],
)
def test_local_path_is_safe(path, tmp_path):
    kept = local_path(f"https://host/{path}")
    assert kept.parts[0] == "host" and len(kept.parts) > 1 and ".." not in kept.parts
    assert all(part.isprintable() and len(part.encode()) <= 120 and not set(part) & set("\\:*") for part in kept.parts)
    assert kept not in (
        local_path("https://host/a"),
        local_path("https://host/a_b"),
        local_path("https://host/etc/passwd"),
    )
    (tmp_path / kept).parent.mkdir(parents=True)
    (tmp_path / kept).touch()


def test_file_and_its_info(target):
    with serving({NAME: CONTENT}) as server:
        fetch(server.url(NAME), target)
    assert target.read_bytes() == CONTENT
    known = files.read_json(target.with_name(f"{NAME}.json"))
    assert (known["url"], known["last_modified"], known["size"]) == (server.url(NAME), LAST_MODIFIED, len(CONTENT))
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "response", [Response(chunked=True), Response(headers={"Content-Encoding": "x-gzip"}), Response(tags=False)]
)
def test_bytes_are_stored_undecoded(target, response):
    assert fetched(target, response, content=b"\x1f\x8b" + CONTENT) == [None]


@pytest.mark.parametrize("content", [b"", b"1"])
def test_empty_and_tiny_files(target, content):
    assert fetched(target, content=content) == [None]


def test_served_folder(tmp_path, target):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / NAME).write_bytes(CONTENT)
    with serving(tmp_path) as server:
        fetch(server.url(f"in/{NAME}"), target, checksum=SHA256)
    assert target.read_bytes() == CONTENT


def test_redirects_are_followed(target):
    with serving({NAME: CONTENT}) as server:
        server.responses |= {
            "1": [Response(302, {"Location": "/2"})],
            "2": [Response(307, {"Location": server.url(NAME)})],
        }
        fetch(server.url("1"), target)
    assert target.read_bytes() == CONTENT


def test_login_is_read_from_netrc(target, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving({NAME: CONTENT}) as server:
        fetch(server.url(NAME), target)
    assert server.requests[0].headers["Authorization"].startswith("Basic ")


def test_proxy_of_the_environment(target, monkeypatch):
    with serving({NAME: CONTENT}) as server:
        monkeypatch.setenv("http_proxy", server.url(""))
        fetch(f"http://nowhere.invalid/{NAME}", target)
    assert server.requests[0].path == f"http://nowhere.invalid/{NAME}"


def test_progress_of_a_resumed_download(target, capsys, monkeypatch):
    monkeypatch.setenv("FLOWERML_LOG_SECONDS", "0")
    with serving({NAME: CONTENT}) as server:
        begin(server, target, cut=200_000)
        capsys.readouterr()
        server.responses[NAME] = [Response(pace=0.05, piece=5_000)]
        fetch(server.url(NAME), target)
    error = capsys.readouterr().err
    assert re.search(rf"{NAME}: 2[0-4]\dk of 256kB", error) and not re.search(r" 1?\d?\dk of 256k", error)


def test_import_is_light():
    heavy = "{'requests', 'fsspec', 'tqdm', 'filelock'}"
    code = f"import sys, flowerml.data.download; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.parametrize("type_", ["text/html; charset=utf-8", "application/octet-stream", None])
def test_html_page_is_refused(target, type_):
    message, requests = refused(target, Response(body=PAGE, headers={"Content-Type": type_}))
    assert "a web page came in place of the file: “Sign in · Lab”" in message and requests == 1


def test_html_page_keeps_the_part(target):
    with serving({NAME: CONTENT}) as server:
        begin(server, target)
        server.responses[NAME] = [Response(body=PAGE, ranges=False), Response()]
        with pytest.raises(DownloadError, match="web page"):
            fetch(server.url(NAME), target)
        fetch(server.url(NAME), target)
    assert server.requests[1].start == 100_000 and target.read_bytes() == CONTENT


def test_expected_html_page(tmp_path):
    with serving({"a.html": PAGE}, {"a.html": [Response(headers={"Content-Type": "text/html"})]}) as server:
        fetch(server.url("a.html"), tmp_path / "a.html")
    assert (tmp_path / "a.html").read_bytes() == PAGE


@pytest.mark.parametrize("url", ["https://me:secret@host/a", "https://secret@host/a", "s3://me:secret@bucket/a"])
def test_password_in_a_url_is_refused(target, url):
    with pytest.raises(DownloadError, match=r"put them into ~/\.netrc") as raised:
        fetch(url, target)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url, words",
    [
        ("file:///etc/passwd", "as a plain path"),
        ("data/a.tgz", "as a plain path"),
        ("xyz://host/a", "xyz:// is not a scheme that can be read; expected one such as https://host/data.tgz"),
        ("https://host:x/a", "not a valid URL"),
        ("https://[host/a", "not a valid URL"),
        ("https:///a", "not a usable address"),
        ("github://a/b", "missing"),
    ],
)
def test_unusable_url_is_refused(target, url, words):
    with pytest.raises(DownloadError) as raised:
        fetch(url, target)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed")
def test_missing_package_is_named(target):
    with pytest.raises(DownloadError, match="s3://bucket/a: Install s3fs to access S3"):
        fetch("s3://bucket/a", target)
