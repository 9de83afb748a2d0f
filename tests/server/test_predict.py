"""POST /predict: every kind of body gets the one wire format, and every error a status to act on."""

import json

import pytest

from flowerml.server import bodies
from flowerml.server.errors import HttpError
from flowerml.serving.answer import answer_json

TEXT = "A good film that was never dull."


def post(client, body, kind, path="/predict", **headers):
    return client.post(path, content=body, headers={"content-type": kind} | headers)


def expected(client, raw, top_k=5):
    loaded = client.app.routes.models.get(client.app.routes.models.names[0]).current
    return answer_json(loaded.classifier.predict([raw], top_k=top_k)[0], loaded.model)


def error(reply):
    """Return status and code of an error, whose form is checked."""
    body = reply.json()
    assert reply.headers["x-request-id"] == body["request_id"]
    assert body["error"]["message"] and len(reply.content) < 500
    return reply.status_code, body["error"]["code"]


@pytest.mark.parametrize("kind", ["image/jpeg", "image/*", "IMAGE/PNG; q=1", "application/octet-stream", ""])
def test_picture_as_it_is(flowers, picture, kind):
    reply = post(flowers, picture, kind)
    assert (reply.status_code, reply.json()) == (200, expected(flowers, picture))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (TEXT.encode(), "text/plain"),
        (TEXT.encode("utf-16"), "text/plain; charset=utf-16"),
        (TEXT.encode(), "application/octet-stream"),
        (b"\xef\xbb\xbf" + TEXT.encode(), 'Text/Plain; charset="UTF-8"'),
    ],
)
def test_text_as_it_is(reviews, body, kind):
    assert post(reviews, body, kind).json() == expected(reviews, TEXT)


def test_charset_is_used(reviews):
    assert post(reviews, "Ein gutes Stück".encode("latin-1"), "text/plain; charset=latin-1").json() == expected(
        reviews, "Ein gutes Stück"
    )


@pytest.mark.parametrize("charset", ["punycode", "zip", "idna", "utf-7", "unicode_escape", "no-such", "ü", "a" * 999])
def test_unknown_charset_is_refused(reviews, charset):
    kind = f"text/plain; charset={charset}".encode("latin-1")
    assert error(post(reviews, b"good", kind)) == (415, "unknown_charset")


def test_hugging_face_form(reviews):
    reply = reviews.post("/predict", json={"inputs": TEXT, "parameters": {"top_k": 1}})
    assert reply.json() == expected(reviews, TEXT, top_k=1)
    reply = reviews.post("/predict?top_k=1", json={"inputs": [TEXT, "dull"]})
    assert reply.json() == {"predictions": [expected(reviews, text, top_k=1) for text in (TEXT, "dull")]}


def test_body_overrides_query(reviews):
    reply = reviews.post("/predict?top_k=2", json={"inputs": TEXT, "parameters": {"top_k": 1}})
    assert len(reply.json()["top"]) == 1


def test_picture_in_base64(flowers, picture, encoded):
    assert flowers.post("/predict", json={"inputs": encoded}).json() == expected(flowers, picture)


def test_form_of_files(flowers, picture):
    files = [("files", ("a.jpg", picture)), ("other", ("b.jpg", b"no picture"))]
    answers = flowers.post("/predict", files=files, data={"top_k": "1"}).json()["predictions"]
    assert answers[0] == expected(flowers, picture, top_k=1)
    assert [answer["error"]["code"] for answer in answers] == [None, "unreadable_image"]


def test_file_that_was_not_chosen(flowers):
    part = b'--a\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--a--\r\n'
    assert error(post(flowers, part, "multipart/form-data; boundary=a")) == (400, "no_inputs")


def test_form_of_texts(reviews):
    files = [("files", ("a.txt", TEXT.encode()))]
    reply = reviews.post("/predict", files=files, data={"text": ["dull", "a cast"]})
    assert [answer["error"]["code"] for answer in reply.json()["predictions"]] == [None] * 3


def test_mlflow_form_is_answered(reviews):
    body = {"dataframe_split": {"columns": ["text"], "data": [[TEXT], [TEXT]]}, "params": {"top_k": 1}}
    reply = reviews.post("/predict", json=body)
    assert reply.json() == reviews.post("/invocations", json=body).json()
    assert reply.json()["predictions"] == [expected(reviews, TEXT, top_k=1)] * 2


def test_unknown_field_of_a_form(reviews):
    reply = reviews.post("/predict", files=[("txt", (None, b"good"))])
    assert error(reply) == (400, "unknown_parameter")
    assert "did you mean 'text'?" in reply.json()["error"]["message"]


def test_explanation(reviews):
    explanation = post(reviews, TEXT.encode(), "text/plain", "/predict?explain").json()["explanation"]
    assert "".join(word["text"] for word in explanation["words"]) == TEXT


def test_one_bad_input_of_many(reviews):
    reply = reviews.post("/predict", json={"inputs": [TEXT, 7, "", None]})
    assert reply.status_code == 200
    codes = [answer["error"]["code"] for answer in reply.json()["predictions"]]
    assert codes == [None, "not_a_text", "empty_text", "not_a_text"]


def test_only_bad_inputs(reviews):
    reply = reviews.post("/predict", json={"inputs": ["", 7]})
    assert reply.status_code == 422
    assert [answer["error"]["code"] for answer in reply.json()["predictions"]] == ["empty_text", "not_a_text"]
    assert reply.json()["error"]["code"] == "all_failed"


def test_bad_picture(flowers):
    assert error(post(flowers, b"no picture", "image/png")) == (422, "unreadable_image")
    assert error(post(flowers, b"", "image/png")) == (422, "unreadable_image")


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("topk=1", "unknown_parameter", "did you mean 'top_k'?"),
        ("zzz", "unknown_parameter", "expected top_k, explain"),
        ("top_k=0", "bad_top_k", "from 1 to 2"),
        ("top_k=-1", "bad_top_k", "from 1 to 2"),
        ("top_k=two", "bad_top_k", "not 'two'"),
        ("top_k=" + "9" * 999, "bad_top_k", "whole number"),
        ("top_k=%D9%A3", "bad_top_k", "whole number"),
        ("top_k=1&top_k=1", "bad_parameter", "given twice"),
        ("explain=perhaps", "bad_parameter", "true or false"),
        ("%ff", "bad_query", "cannot be read"),
        ("&".join("a" * 50), "bad_query", "cannot be read"),
    ],
)
def test_bad_query(reviews, query, code, words):
    reply = reviews.post(reviews.base_url.join("/predict").copy_with(query=query.encode()), content=b"good")
    assert error(reply) == (400, code)
    assert words in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"input": "good"}, "unknown_key"),
        ({}, "no_inputs"),
        ({"inputs": []}, "no_inputs"),
        ({"inputs": "good", "parameters": 7}, "bad_parameter"),
        ({"inputs": "good", "parameters": {"topk": 1}}, "unknown_parameter"),
        ({"inputs": "good", "parameters": {"top_k": True}}, "bad_top_k"),
        ({"inputs": "good", "parameters": {"top_k": None}}, "bad_top_k"),
        ({"inputs": "good", "parameters": {"top_k": 0}}, "bad_top_k"),
        ({"inputs": "good", "parameters": {"explain": "yes"}}, "bad_parameter"),
        (["good"], "bad_json"),
        ("good", "bad_json"),
    ],
)
def test_bad_json_body(reviews, body, code):
    assert error(reviews.post("/predict", json=body)) == (400, code)


@pytest.mark.parametrize("body", [b"", b"null", b"{", b"[" * 90_000, b"9" * 5000, b"\xff", b"\0"])
def test_broken_json(reviews, body):
    assert error(post(reviews, body, "application/json")) == (400, "bad_json")


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"x", "image/jpeg", 415, "unsupported_media_type"),
        (b"x", "text/html", 415, "unsupported_media_type"),
        (b"x", "a" * 5000, 415, "unsupported_media_type"),
        (b"x", "multipart/form-data", 400, "bad_form"),
        (b"x", "multipart/form-data; boundary=a", 400, "bad_form"),
        (b"--a\r\n\r\nx", "multipart/form-data; boundary=a", 400, "bad_form"),
        (b"--a--\r\n", "multipart/form-data; boundary=a", 400, "no_inputs"),
        (b"x", f"multipart/form-data; boundary={'a' * 999}", 400, "bad_form"),
        (b"x" * 100_001, "text/plain", 413, "too_large"),
    ],
)
def test_refused_body(reviews, body, kind, status, code):
    assert error(post(reviews, body, kind)) == (status, code)


def test_too_many_values_are_not_parsed():
    with pytest.raises(HttpError) as error:
        bodies.parse_json(b"[" + b"[]," * bodies.MAX_ELEMENTS + b"[]]")
    assert (error.value.status, error.value.code) == (413, "too_many_values")


def test_curl_is_told_its_header(reviews):
    reply = post(reviews, b"a=b", "application/x-www-form-urlencoded")
    assert "-H 'Content-Type: text/plain'" in reply.json()["error"]["message"]


def test_compressed_body_is_refused(reviews):
    reply = post(reviews, b"good", "text/plain", **{"content-encoding": "gzip"})
    assert error(reply) == (415, "unsupported_encoding")


def test_too_large_without_a_length(reviews):
    assert error(post(reviews, iter([b"x" * 60_000] * 2), "text/plain")) == (413, "too_large")


def test_too_many_inputs(reviews):
    assert error(reviews.post("/predict", json={"inputs": ["good"] * 21})) == (413, "too_many_inputs")
    files = [("files", ("a.txt", b"good"))] * 30
    assert error(reviews.post("/predict", files=files)) == (413, "too_many_inputs")


def test_hostile_values_are_not_repeated(reviews):
    secret = "s3cret" * 100
    for body in ({secret: 1}, {"inputs": "good", "parameters": {secret: 1}}):
        reply = reviews.post("/predict", json=body)
        assert error(reply)[0] == 400 and secret[:200] not in reply.text


def test_half_a_character_is_answered(reviews):
    reply = post(reviews, rb'{"inputs": "\ud83d good"}', "application/json", "/predict?explain")
    assert "".join(word["text"] for word in json.loads(reply.text)["explanation"]["words"]) == "\ud83d good"
