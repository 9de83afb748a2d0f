"""Hostile requests to real servers: each gets an answer, and the server is as well as before."""

import base64
import io
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import pytest
from PIL import Image

from flowerml.tasks.image.payload import MAX_BYTES

MEMORY_GROWTH = 1.10


def packed(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def png(width: int, height: int, data: bytes) -> bytes:
    """Return a gray PNG whose header says `width` and `height`, whatever its data hold."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT": data, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


NOISE = Image.effect_noise((64, 48), 80).convert("RGB")
JPEG = packed(NOISE, "JPEG")
ZEROS = zlib.compress(bytes(10_001 * 10_000), 9)  # 100 MB in 97 kB

PICTURES = {
    "not base64": ("%%%", "not_base64"),
    "base64 cut short": (encoded(JPEG)[:101], "not_base64"),
    "letters of other scripts": ("ｆｏｏ花🌼", "not_base64"),
    "a NUL": ("AAAA\0AAA", "not_base64"),
    "an address": ("https://example.com/rose.jpg", "not_base64"),
    "an address of a file": ("file:///etc/passwd", "not_base64"),
    "a path": ("/etc/passwd", "not_base64"),
    "a path to elsewhere": ("../../../../etc/shadow", "not_base64"),
    "a data URI without base64": ("data:image/svg+xml,<svg/>", "not_base64"),
    "a data URI without data": ("data:image/png;base64", "unreadable_image"),
    "nothing": ("", "unreadable_image"),
    "a text": (encoded(b"a rose is a rose"), "unreadable_image"),
    "a drawing in XML": (encoded(b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"), "unreadable_image"),
    "a JPEG cut short": (encoded(JPEG[: len(JPEG) // 2]), "unreadable_image"),
    "a WebP cut short": (encoded(packed(NOISE, "WEBP")[:200]), "unreadable_image"),
    "a TIFF without its end": (encoded(packed(NOISE, "TIFF", compression="tiff_lzw")[:-300]), "unreadable_image"),
    "a GIF that is only a header": (encoded(packed(NOISE, "GIF")[:13]), "unreadable_image"),
    "a BMP that promises more": (encoded(packed(NOISE, "BMP")[:-2000]), "unreadable_image"),
    "a PNG with other data": (encoded(png(64, 48, b"no zlib")), "unreadable_image"),
    "a PNG that says it is a wall": (encoded(png(60_000, 60_000, zlib.compress(b"\0"))), "image_too_large"),
    "a bomb": (encoded(png(10_000, 10_000, ZEROS)), "image_too_large"),
    "a strip": (encoded(png(60_000, 1, zlib.compress(bytes(60_001)))), "image_too_large"),
    "more bytes than are read": ("A" * (4 * (MAX_BYTES // 3 + 100)), "image_too_large"),
    "null": (None, "not_base64"),
    "not a number": (float("nan"), "not_base64"),
    "a number": (7, "not_base64"),
    "true": (True, "not_base64"),
    "an object": ({"url": "https://example.com"}, "not_base64"),
    "an empty list": ([], "unreadable_image"),
    "numbers that are no bytes": ([255, 216, 256], "not_bytes"),
    "fractions": ([255.5, 216.0], "not_bytes"),
    "a list of lists": ([[255, 216]], "not_bytes"),
    "a list of nulls": ([None], "not_bytes"),
    "a list of words": (["255", "rose"], "not_bytes"),
}
TEXTS = {
    "nothing": ("", "empty_text"),
    "space of every kind": (" \t\n\u3000\u2028", "empty_text"),
    "null": (None, "not_a_text"),
    "not a number": (float("nan"), "not_a_text"),
    "a number": (7, "not_a_text"),
    "an object": ({"text": "good"}, "not_a_text"),
    "a list": (["good"], "not_a_text"),
    "50 MB": ("good " * 10_000_000, "text_too_long"),
    "a NUL": ("\0", "top"),
    "the end of Unicode": ("\U0010ffff\ufffe", "top"),
    "a thousand accents": ("e" + "\u0301" * 1000, "top"),
    "from right to left": ("\u202egood\u202c שלום", "top"),
    "families": ("👨‍👩‍👧‍👦" * 500, "top"),
    "half a character": ("\ud83d good", "top"),
    "tags that never end": ("<a" * 100_000, "top"),
    "entities that are no characters": ("&#99999999999;&#xD800;&" * 100, "top"),
    "one word": ("a" * 500_000, "top"),
}
PARAMETERS = {
    "zero": (0, "bad_top_k"),
    "below zero": (-1, "bad_top_k"),
    "far below zero": (-(10**30), "bad_top_k"),
    "null": (None, "bad_top_k"),
    "more than there are classes": (10**30, "top"),
}


@pytest.fixture(scope="module")
def warmed_up(flowers_served, reviews_served, flower):
    """Both servers after work of every kind, with the memory of each."""
    review = "A wonderful film. " * 40
    for server, column, good in ((flowers_served, "image", flower), (reviews_served, "text", review)):
        bodies = [rows(column, [good] * 4)] * 16 + [rows(column, [good], explain=True)] * 6
        with ThreadPoolExecutor(8) as pool:
            assert all(set(reply.codes) == {"top"} for reply in pool.map(server.ask, bodies))
        assert server.ask(rows(column, [good] * 64)).codes == ["top"] * 64
    return {server: server.memory() for server in (flowers_served, reviews_served)}


def rows(column, values, **params):
    return {"dataframe_split": {"columns": [column], "data": [[value] for value in values]}, "params": params}


def check_discreet(reply, sent):
    """Check that a reply has no stack trace, no path of the server, and not what was sent."""
    assert not any(word in reply.text for word in ("Traceback", "site-packages", ".py", "flowerml", "/tmp", "File "))
    assert not (isinstance(sent, str) and len(sent) > 30 and sent[:1000] in reply.text)
    assert len(reply.text) < 2000


@pytest.mark.parametrize("name", PICTURES)
def test_hostile_picture_gets_error(flowers_served, warmed_up, flower, name):
    value, code = PICTURES[name]
    reply = flowers_served.ask(rows("image", [value, flower]))
    assert reply.codes == [code, "top"]
    check_discreet(reply, value)


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_gets_answer(reviews_served, warmed_up, name):
    value, code = TEXTS[name]
    # A null beside it keeps pandas from making the column one of texts, which refuses half characters.
    reply = reviews_served.ask(rows("text", [value, None, 7]))
    assert reply.codes == [code, "not_a_text", "not_a_text"]
    check_discreet(reply, value)


@pytest.mark.parametrize("name", PARAMETERS)
def test_hostile_top_k_gets_answer(flowers_served, warmed_up, flower, name):
    value, code = PARAMETERS[name]
    reply = flowers_served.ask(rows("image", [flower, "***"], top_k=value))
    assert reply.codes == [code, "not_base64" if code == "top" else code]
    if code == "top":
        assert len(reply.predictions[0]["top"]) == 10
    else:
        assert "from 1 to 10" in reply.predictions[0]["error"]["message"]


def test_hostile_input_is_not_explained(flowers_served, reviews_served, warmed_up):
    (answer,) = flowers_served.ask(rows("image", ["***"], explain=True)).predictions
    assert answer["error"]["code"] == "not_base64" and answer["explanation"]["label"] is None
    (answer,) = reviews_served.ask(rows("text", ["<a" * 400_000 + " good"], explain=True)).predictions
    assert answer["explanation"]["words"]


def test_ten_thousand_rows(flowers_served, reviews_served, warmed_up):
    count = 10_000
    assert flowers_served.ask(rows("image", ["***"] * count)).codes == ["not_base64"] * count
    assert reviews_served.ask(rows("text", ["A good film."] * count, top_k=1)).codes == ["top"] * count


def test_list_of_bytes_is_a_picture(flowers_served, warmed_up, flower):
    numbers = list(base64.b64decode(flower))
    expected = flowers_served.ask(rows("image", [flower])).predictions
    for body in (rows("image", [numbers]), {"inputs": [numbers]}, {"instances": [{"image": numbers}]}):
        assert flowers_served.ask(body).predictions == expected


def test_no_rows_get_no_answers(flowers_served, warmed_up):
    for body in (rows("image", []), {"inputs": []}, {"instances": []}, {"inputs": {"image": []}}):
        assert flowers_served.ask(body).predictions == []


# What MLflow 3.17 answers by itself, before it asks the model, as the README says.
DEEP = '{"inputs":' + "[" * 100_000 + "]" * 100_000 + "}"
BY_MLFLOW = {
    "no body": (b"", 400),
    "no JSON": (b"rose.jpg", 400),
    "JSON cut short": (b'{"inputs": ["a"', 400),
    "no UTF-8": (b'{"inputs": ["\xff"]}', 400),
    "a list": (b"[]", 400),
    "no key that it knows": (b'{"images": ["a"]}', 400),
    "two keys": (b'{"inputs": ["a"], "instances": ["a"]}', 400),
    "deep JSON": (DEEP.encode(), 500),
    "a number of 5,000 digits": (b'{"inputs": ["a"], "params": {"top_k": %s}}' % (b"9" * 5000), 500),
    "another column": (json.dumps(rows("photo", ["a"])).encode(), 400),
    "a column twice": (b'{"dataframe_split": {"columns": ["text", "text"], "data": [["a", "b"]]}}', 400),
    "rows of other lengths": (b'{"dataframe_split": {"columns": ["text"], "data": [["a"], ["a", "b"]]}}', 400),
    "one text and no list": (b'{"inputs": "a"}', 400),
    "lists of different lengths": (b'{"inputs": [[1, 2], [3]]}', 400),
    "no records": (b'{"dataframe_records": []}', 400),
    "params that are a list": (b'{"inputs": ["a"], "params": []}', 400),
    "top_k as a text": (b'{"inputs": ["a"], "params": {"top_k": "3"}}', 400),
    "top_k as a fraction": (b'{"inputs": ["a"], "params": {"top_k": 3.0}}', 400),
    "top_k that is not a number": (b'{"inputs": ["a"], "params": {"top_k": NaN}}', 400),
    "top_k that is true": (b'{"inputs": ["a"], "params": {"top_k": true}}', 400),
    "explain as a text": (b'{"inputs": ["a"], "params": {"explain": "yes"}}', 400),
}


@pytest.mark.parametrize("name", BY_MLFLOW)
def test_mlflow_answers_by_itself(reviews_served, warmed_up, name):
    body, status = BY_MLFLOW[name]
    assert reviews_served.post(body).status == status


def test_lone_surrogate_fails_no_row(reviews_served, warmed_up):
    reply = reviews_served.post(b'{"inputs": ["\\ud800 good", "good"]}')
    assert reply.codes == ["top", "top"]


def test_mlflow_refuses_content_types(reviews_served, warmed_up):
    assert reviews_served.post(b"a=b", content_type="application/x-www-form-urlencoded").status == 415
    assert reviews_served.post(b"{}", content_type="application/json; charset=latin-1").status == 415
    assert reviews_served.post(b"{}", content_type=None).status == 500
    assert reviews_served.post(b"", method="GET").status == 405


def test_mlflow_makes_texts_of_inputs(reviews_served, warmed_up):
    assert reviews_served.ask({"inputs": [None, 7]}).codes == ["top", "top"]


def test_servers_end_as_they_began(flowers_served, reviews_served, warmed_up, flower):
    for server, column, good in ((flowers_served, "image", flower), (reviews_served, "text", "A good film.")):
        with ThreadPoolExecutor(8) as pool:
            replies = pool.map(server.ask, repeat(rows(column, [good]), 16))
        assert {reply.text for reply in replies} == {server.ask(rows(column, [good])).text}
        assert server.memory() < MEMORY_GROWTH * warmed_up[server]
