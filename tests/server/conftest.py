"""A server of small classifiers, asked without a socket."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from flowerml.server.app import create_app
from flowerml.server.engine import Engine
from flowerml.server.metrics import Metrics
from flowerml.server.models import Models
from flowerml.server.settings import Settings
from tests.support.registered import jpeg, picture_classifier, text_classifier

ADDRESS = "http://localhost:5001"


@pytest.fixture(scope="session")
def addresses(tmp_path_factory) -> dict[str, str]:
    """Return the folders of a classifier of pictures and of one of texts, by name."""
    folder = tmp_path_factory.mktemp("classifiers")
    return {
        "flowers": str(picture_classifier(folder / "flowers").folder),
        "reviews": str(text_classifier(folder / "reviews").folder),
    }


@pytest.fixture(scope="session")
def models(addresses) -> Iterator[Models]:
    """Yield both models, loaded."""
    models = Models(addresses)
    models.start()
    yield models
    models.stop()


class Only:
    """One of several models, as if there were no others."""

    webhook = None

    def __init__(self, models: Models, name: str) -> None:
        self.models, self.names = models, (name,)

    def get(self, name: str) -> Any:
        return self.models.get(name) if name in self.names else None

    def status(self) -> dict[str, Any]:
        return {name: self.models.status()[name] for name in self.names}


def make_app(models: Any, **settings: Any) -> Any:
    """Return the application of some models, with an engine of its own."""
    metrics = Metrics()
    engine = Engine(threads=2, metrics=metrics)
    served = Settings(models=dict.fromkeys(models.names, "."), **settings)
    return create_app(served, models=models, engine=engine, metrics=metrics, capture=None)


@pytest.fixture(scope="module")
def both(models) -> Iterator[TestClient]:
    """Yield a client of a server of two models."""
    with TestClient(make_app(models), base_url=ADDRESS) as client:
        yield client


@pytest.fixture(scope="module")
def flowers(models) -> Iterator[TestClient]:
    """Yield a client of a server of pictures, which takes bodies of 100 kB."""
    with TestClient(make_app(Only(models, "flowers"), max_bytes=100_000), base_url=ADDRESS) as client:
        yield client


@pytest.fixture(scope="module")
def reviews(models) -> Iterator[TestClient]:
    """Yield a client of a server of texts, which takes bodies of 100 kB and 20 inputs."""
    app = make_app(Only(models, "reviews"), max_bytes=100_000, max_items=20)
    with TestClient(app, base_url=ADDRESS) as client:
        yield client


@pytest.fixture(scope="session")
def picture() -> bytes:
    """Return a small JPEG."""
    return jpeg(1)


@pytest.fixture(scope="session")
def encoded(picture) -> str:
    """Return the picture in base64."""
    return base64.b64encode(picture).decode()


def lines(reply: Any) -> list[Any]:
    """Return the JSON values of a reply's lines."""
    return [json.loads(line) for line in reply.text.splitlines()]
