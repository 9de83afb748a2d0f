"""The names the page answers to, the bodies it takes, and the uploads it keeps."""

import asyncio

import pytest

from flowerml.core.errors import FlowermlError
from flowerml.web import bodies
from flowerml.web.bodies import BodyError
from flowerml.web.hosts import Hosts, host_of
from flowerml.web.uploads import Uploads


def refusal(headers, *, allowed=(), arrived_at="127.0.0.1", navigation=False, port=7860):
    return Hosts(port, allowed).refusal(headers, arrived_at=arrived_at, navigation=navigation)


@pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST:7860"])
def test_loopback_names_are_allowed(host):
    assert refusal({"host": host}) is None


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:7860", "localhost", "localhost:80", "localhost.:7860",
     "127.0.0.1.evil.example:7860",
     "localhost:7860@evil.example", "0.0.0.0:7860", "192.168.1.5:7860", "[::2]:7860", "localhost:7860\t",
     "localhost:07860"],
)  # fmt: skip
def test_other_names_are_refused(host):
    assert "does not answer to" in refusal({"host": host})


def test_given_name_has_any_port():
    assert refusal({"host": "models.example.org"}, allowed=["Models.example.org"]) is None
    assert refusal({"host": "models.example.org:81"}, allowed=["models.example.org"]) is None
    assert refusal({"host": "models.example.org:81"}, allowed=["models.example.org:80"]) is not None
    assert refusal({"host": "localhost:9000"}, allowed=["localhost:9000"]) is None


def test_own_address_is_allowed():
    assert refusal({"host": "192.168.1.5:7860"}, arrived_at="192.168.1.5") is None
    assert refusal({"host": "[fe80::1]:7860"}, arrived_at="fe80::1") is None
    assert refusal({"host": "192.168.1.5:7861"}, arrived_at="192.168.1.5") is not None


def test_http_port_may_be_left_out():
    assert refusal({"host": "localhost"}, port=80) is None
    assert refusal({"host": "192.168.1.5"}, arrived_at="192.168.1.5", port=80) is None


@pytest.mark.parametrize("name", ["*", "", "http://a", "a/b", "a b", "a:99999", "a:0", "[zz]", "a\n"])
def test_bad_name_is_refused(name):
    with pytest.raises(FlowermlError, match=r"expected a host name such as models\.example\.org"):
        Hosts(7860, [name])


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://localhost:9000", "http://127.0.0.1:7860", ""]
)
def test_other_origins_are_refused(origin):
    assert "another site" in refusal({"host": "localhost:7860", "origin": origin})


@pytest.mark.parametrize("origin", ["http://localhost:7860", "https://localhost:7860"])
def test_own_origin_is_allowed(origin):
    assert refusal({"host": "localhost:7860", "origin": origin}) is None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_only_link(site):
    headers = {"host": "localhost:7860", "sec-fetch-site": site, "sec-fetch-mode": "navigate"}
    assert refusal(headers, navigation=True) is None
    assert refusal(headers, navigation=False) is not None
    assert refusal({**headers, "sec-fetch-mode": "no-cors"}, navigation=True) is not None


@pytest.mark.parametrize(
    ("address", "name"),
    [("0.0.0.0", None), ("::", None), ("::1", "[::1]"), ("10.0.0.1", "10.0.0.1"), ("box", "box")],
)
def test_bound_address_has_a_name(address, name):
    assert host_of(address) == name


def test_upload_belongs_to_its_session():
    uploads = Uploads()
    key = uploads.add(b"picture", "mine")
    assert uploads.read(key, "mine") == b"picture"
    for other in ("yours", None):
        with pytest.raises(FlowermlError, match="was not uploaded here, or too long ago; upload it again"):
            uploads.read(key, other)


@pytest.mark.parametrize("key", ["/etc/passwd", "../../etc/passwd", "", "sample-2", __file__])
def test_no_path_is_read(key):
    uploads = Uploads()
    assert uploads.read(uploads.add_sample(b"flower"), None) == b"flower"
    with pytest.raises(FlowermlError):
        uploads.read(key, "mine")


def test_oldest_uploads_make_room():
    uploads = Uploads(max_bytes=10, max_per_session=2)
    first, second, third = (uploads.add(b"abc", "mine") for _ in range(3))
    with pytest.raises(FlowermlError):
        uploads.read(first, "mine")
    other = uploads.add(b"12345678", "yours")
    assert uploads.size == 8
    assert uploads.read(other, "yours") == b"12345678"
    for key in (second, third):
        with pytest.raises(FlowermlError):
            uploads.read(key, "mine")


def test_old_uploads_are_forgotten():
    uploads = Uploads(max_seconds=0)
    uploads.add(b"abc", "mine")
    uploads.forget_old()
    assert uploads.size == 0


def read(*chunks, length="0", limit=10, seconds=1.0, ends=True):
    count = len(chunks)
    messages = [
        {"type": "http.request", "body": chunk, "more_body": not ends or number < count}
        for number, chunk in enumerate(chunks, start=1)
    ]

    async def receive():
        return messages.pop(0) if messages else await asyncio.sleep(60)

    return asyncio.run(bodies.read_body(receive, {"content-length": length}, limit=limit, seconds=seconds))


def test_body_is_read_whole():
    assert read(b"abc", b"def") == b"abcdef"


@pytest.mark.parametrize("length", ["11", "9" * 400, "-1", "1e3", "٣"])
def test_long_body_is_refused_unread(length):
    with pytest.raises(BodyError) as error:
        read(length=length)
    assert error.value.status == 413


def test_endless_body_is_refused():
    with pytest.raises(BodyError) as error:
        read(*[b"abcd"] * 9)
    assert error.value.status == 413


def test_slow_body_is_refused():
    with pytest.raises(BodyError) as error:
        read(b"abc", ends=False, seconds=0.05)
    assert error.value.status == 408


def form(*contents, end="--"):
    parts = "".join(
        f'--x\r\nContent-Disposition: form-data; name="files"; filename="../a"\r\n\r\n{c}\r\n' for c in contents
    )
    return f"{parts}--x{end}".encode()


def test_form_of_one_file():
    assert bodies.only_file(form("abc"), "multipart/form-data; boundary=x") == b"abc"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (form("a", "b"), "multipart/form-data; boundary=x"),
        (form("a", end=""), "multipart/form-data; boundary=x"),
        (form("a"), "multipart/form-data"),
        (form("a"), "text/plain; boundary=x"),
        (form("a"), f"multipart/form-data; boundary={'x' * 1000}"),
        (form("a"), "multipart/form-data; boundary=y"),
        (b"--x\r\nno colon\r\n\r\na\r\n--x--", "multipart/form-data; boundary=x"),
        (b"--x\r\n" + b"A: b\r\n" * 10_000, "multipart/form-data; boundary=x"),
        (b"--x--", "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data; boundary=x"),
    ],
)
def test_bad_form_is_refused(body, kind):
    with pytest.raises(BodyError) as error:
        bodies.only_file(body, kind)
    assert error.value.status == 400
