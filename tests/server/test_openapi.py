"""The OpenAPI document: valid, with the classes of the models, and examples that are answered."""

import base64
from dataclasses import replace

import jsonschema
import pytest
from openapi_spec_validator import validate

from flowerml.classifier.examples import SavedExample, to_bytes
from flowerml.classifier.saved import EXAMPLES
from flowerml.server import openapi
from flowerml.server.loading import load
from flowerml.tasks.registry import TASKS
from tests.support.detecting import detecting_classifier
from tests.support.registered import jpeg


@pytest.fixture(params=["flowers", "reviews"])
def client(request):
    return request.getfixturevalue(request.param)


def resolved(document, schema):
    return {**schema, "components": document["components"]}


def test_document_is_valid(both):
    document = both.get("/openapi.json").json()
    validate(document)
    assert "/models/flowers/predict" in document["paths"]


def test_document_has_real_classes(flowers):
    schemas = flowers.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Class"]["properties"]["label"]["enum"] == ["daisy", "poppy", "rose"]
    assert "a rose" in schemas["Class"]["properties"]["name"]["enum"]


def test_large_example_is_made_small(models):
    loaded = models.get("flowers").current
    photograph = base64.b64encode(jpeg(1, side=600)).decode()
    example = openapi.example(replace(loaded, examples=(photograph,)))
    assert len(photograph) > openapi.MAX_EXAMPLE > len(example)
    assert loaded.classifier.predict([base64.b64decode(example)])[0].top


def test_folder_shows_its_own_example(tmp_path):
    content = to_bytes(TASKS["text"], [SavedExample("pos", "A good film.")])
    folder = detecting_classifier(tmp_path / "c", lambda _: {EXAMPLES: content}).folder
    assert openapi.example(load(folder, "c", seconds=5)) == "A good film."


def test_examples_are_answered(client):
    document = client.get("/openapi.json").json()
    sent = 0
    for path in ("/predict", "/invocations"):
        operation = document["paths"][path]["post"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        for kind, content in operation["requestBody"]["content"].items():
            examples = [value["value"] for value in content.get("examples", {}).values()]
            for example in [*examples, *([content["example"]] if "example" in content else [])]:
                body = {"json": example} if kind == "application/json" else {"content": example}
                headers = {} if kind == "application/json" else {"content-type": kind}
                reply = client.post(path, **body, headers=headers)
                assert reply.status_code == 200, (kind, reply.text)
                if "ndjson" not in kind:
                    jsonschema.validate(reply.json(), resolved(document, schema))
                sent += 1
    assert sent >= 4
