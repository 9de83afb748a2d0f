"""What `flowerml serve` may be asked for."""

import pickle

import pytest

from flowerml.core.errors import FlowermlError
from flowerml.server.settings import Settings, named_models, read_token

TOKEN = "0123456789abcdef"


def settings(**values):
    return Settings(models={"flowers": "models/flowers"}, **values)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_token(host):
    assert settings(host=host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "models.example.org", ""])
def test_other_host_needs_token(host):
    with pytest.raises(FlowermlError, match="--no-token"):
        settings(host=host)
    assert settings(host=host, token=TOKEN).token == TOKEN
    assert settings(host=host, no_token=True).no_token


@pytest.mark.parametrize("token", ["short", "", "with a blank in it", "é" * 20, "x" * 2000, "0123456789abcdef\n"])
def test_weak_token_is_refused_and_not_shown(token):
    with pytest.raises(FlowermlError, match="openssl rand") as refusal:
        settings(token=token)
    assert not token or token not in str(refusal.value)


def test_token_is_not_in_repr_and_travels():
    asked = settings(token=TOKEN)
    assert TOKEN not in repr(asked)
    assert pickle.loads(pickle.dumps(asked)) == asked


@pytest.mark.parametrize(
    "values",
    [
        {"origins": ("https://shop.example/path",)},
        {"origins": ("shop.example",)},
        {"origins": ("null",)},
        {"allowed_hosts": ("http://a",)},
        {"port": 70000},
        {"queue": 0},
        {"seconds": float("nan")},
        {"grace": float("inf")},
        {"keep_inputs": 0.5},
        {"keep_inputs": 2.0},
        {"drift_window": 10},
        {"log_bytes": 1},
    ],
)
def test_invalid_value_is_refused(values):
    with pytest.raises(FlowermlError):
        settings(**values)


def test_names_come_from_addresses():
    models = ["models:/flowers@champion", "models:/reviews/3", "models/tickets/classifier", "own=runs:/1f/flowers"]
    assert list(named_models(models)) == ["flowers", "reviews", "tickets", "own"]


def test_same_name_twice_is_refused():
    with pytest.raises(FlowermlError, match="NAME=MODEL"):
        named_models(["models/flowers", "models:/flowers@champion"])


@pytest.mark.parametrize("name", ["a b", "../a", "a/b", "é?"])
def test_name_is_fit_for_a_path(name):
    with pytest.raises(FlowermlError, match="NAME=MODEL"):
        Settings(models={name: "models/flowers"})


def test_token_of_file_goes_before_environment(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file, {"FLOWERML_TOKEN": "other"}) == TOKEN
    assert read_token(None, {"FLOWERML_TOKEN": TOKEN}) == TOKEN
    assert read_token(None, {"FLOWERML_TOKEN": " "}) is None
    with pytest.raises(FlowermlError, match="cannot be read"):
        read_token(tmp_path / "missing", {})
