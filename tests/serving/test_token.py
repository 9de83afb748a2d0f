"""The token that clients send, and the reasons of servers that they show."""

import json

import pytest
import requests

from flowerml.serving.client import Endpoint
from flowerml.serving.server_error import explanation
from flowerml.serving.token import authorization
from flowerml.tasks.registry import TASKS

TOKEN = "0123456789abcdef"


def sent_header(url):
    """Return the Authorization that a client of this server sends."""
    session = Endpoint(url, TASKS["text"])._session
    return session.prepare_request(requests.Request("POST", f"{url}/invocations")).headers.get("Authorization")


def test_client_sends_token_whatever_netrc_has(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine models.example.org login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("FLOWERML_TOKEN", TOKEN)
    assert sent_header("http://models.example.org") == f"Bearer {TOKEN}"


def test_user_of_the_url_goes_before_the_token(monkeypatch):
    monkeypatch.setenv("FLOWERML_TOKEN", TOKEN)
    assert sent_header("http://me:secret@models.example.org").startswith("Basic ")


@pytest.mark.parametrize("token", ["", " ", "é", "a\nb"])
def test_no_header_without_a_token(monkeypatch, token):
    monkeypatch.setenv("FLOWERML_TOKEN", token)
    assert authorization("http://models.example.org") == {}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"code": "busy", "message": "ask\nagain"}}, "ask again"),
        ({"error_code": "BAD_REQUEST", "message": "rows … Error: no such column"}, "no such column"),
        ({"error": "other"}, None),
        ([], None),
        ({"message": ""}, None),
    ],
)
def test_reason_of_either_server(body, reason):
    assert explanation(json.dumps(body).encode()) == reason


def test_no_reason_in_what_is_no_json():
    assert explanation(b"<html>") is None and explanation(b"[" * 10**5) is None
