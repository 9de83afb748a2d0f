"""The OpenAPI 3.1 document of a server: its paths, with the classes and examples of the models that are loaded."""

import json
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flowerml.classifier.classifier import TOP_K, Classifier
from flowerml.server.errors import to_bytes
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from flowerml.server.loading import Loaded
    from flowerml.server.models import Models
    from flowerml.server.settings import Settings

Json = dict[str, Any]

MAX_EXAMPLE = 20_000
"""Characters of an example; of a larger one its preview is shown."""
MAX_CLASSES = 1000
JSON = "application/json"
FALLBACK = "An example."
ERRORS = {
    "400": "A parameter or a body that cannot be read.",
    "401": "The token is missing or wrong.",
    "404": "No such model.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "A kind of body that the model does not take.",
    "429": "Too many requests wait; ask again after `Retry-After`.",
    "500": "The server failed.",
    "503": "No model is loaded yet, or the request could not be answered in time.",
}


class OpenApi:
    """The document, made anew when another version of a model answers."""

    def __init__(self, settings: "Settings", models: "Models") -> None:
        self.settings = settings
        self.models = models
        self._made: tuple[tuple[object, ...], bytes] | None = None

    def render(self) -> bytes:
        """Return the document as JSON."""
        loaded = {name: self._current(name) for name in self.models.names}
        key = tuple(None if model is None else (model.digest, model.loaded_at) for model in loaded.values())
        made = self._made
        if made is None or made[0] != key:
            made = self._made = key, to_bytes(document(loaded, has_token=self.settings.token is not None))
        return made[1]

    def _current(self, name: str) -> "Loaded | None":
        served = self.models.get(name)
        return None if served is None else served.current


def document(models: "dict[str, Loaded | None]", *, has_token: bool) -> Json:
    """Return the document of these models by name; None stands for one that is not loaded yet."""
    paths: Json = {}
    schemas: Json = {"Error": _error_schema(), "Explanation": _explanation_schema()}
    for name, loaded in models.items():
        if loaded is not None:
            suffix = "" if len(models) == 1 else f"_{name}"
            schemas |= _model_schemas(loaded.classifier, suffix)
            predict, invocations = _predict(loaded, suffix), _invocations(loaded, suffix)
            prefix = "" if len(models) == 1 else f"/models/{name}"
            paths |= {f"{prefix}/predict": {"post": predict}, f"{prefix}/invocations": {"post": invocations}}
    paths |= _fixed_paths()
    security: Json = {"security": [{"token": []}]} if has_token else {}
    schemes: Json = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if has_token else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "flowerml",
            "version": version("flowerml"),
            "description": "Classifies pictures and texts. One wire format: an answer has the same keys everywhere.",
        },
        "paths": paths,
        "components": {"schemas": schemas, **schemes},
        **security,
    }


def _predict(loaded: "Loaded", suffix: str) -> Json:
    classifier = loaded.classifier
    model = loaded.model
    answer = {"$ref": f"#/components/schemas/Answer{suffix}"}
    return {
        "operationId": f"predict{suffix}",
        "summary": f"Classify {classifier.task.NOUN}s",
        "description": f"Model {model['name']}, version {model['version'] or 'none'}.",
        "parameters": [
            _query("top_k", {"type": "integer", "minimum": 1, "default": TOP_K}, "The number of classes in an answer."),
            _query("explain", {"type": "boolean", "default": False}, "Whether answers say what speaks for the class."),
        ],
        "requestBody": {"required": True, "content": _contents(loaded)},
        "responses": {
            "200": {
                "description": "The answer to one input, or those to a list; a line for each line of JSON lines.",
                "content": {
                    JSON: {"schema": {"anyOf": [answer, _answers(answer)]}},
                    "application/x-ndjson": {"schema": answer},
                },
            },
            "422": {
                "description": "None of the inputs could be read; the answers say why.",
                "content": {JSON: {"schema": {"anyOf": [answer, _answers(answer)]}}},
            },
            **_error_responses(),
        },
    }


def _invocations(loaded: "Loaded", suffix: str) -> Json:
    column = loaded.classifier.task.INPUT
    frame = {"columns": [column], "data": [[example(loaded)]]}
    return {
        "operationId": f"invocations{suffix}",
        "summary": "MLflow's scoring protocol, as `mlflow models serve` has it",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "dataframe_split": {"type": "object"},
                            "dataframe_records": {"type": "array"},
                            "instances": {"type": "array"},
                            "inputs": {},
                            "params": {"type": "object"},
                        },
                    },
                    "example": {"dataframe_split": frame, "params": {"top_k": 2}},
                },
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        "responses": {
            "200": {
                "description": "An answer for each row.",
                "content": {JSON: {"schema": _answers({"$ref": f"#/components/schemas/Answer{suffix}"})}},
            },
            **_error_responses(),
        },
    }


def _contents(loaded: "Loaded") -> Json:
    """Return the kinds of bodies that a model takes, each with an example."""
    task, shown = loaded.classifier.task, example(loaded)
    binary = {"type": "string", "contentMediaType": "application/octet-stream"}
    item = {"type": "string"} if task.RAW is str else {"type": "string", "contentEncoding": "base64"}
    fields: Json = {
        "files": {"type": "array", "items": binary},
        "top_k": {"type": "integer"},
        "explain": {"type": "boolean"},
    }
    if task.RAW is str:
        raw: Json = {"text/plain": {"schema": {"type": "string"}, "example": shown}}
        fields["text"] = {"type": "array", "items": item}
    else:
        raw = {"image/*": {"schema": binary}}
    return {
        JSON: {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "additionalProperties": False,
                "properties": {
                    "inputs": {"anyOf": [item, {"type": "array", "items": item}]},
                    "parameters": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"top_k": {"type": "integer", "minimum": 1}, "explain": {"type": "boolean"}},
                    },
                },
            },
            "examples": {
                "one": {"value": {"inputs": shown, "parameters": {"top_k": 2}}},
                "several": {"value": {"inputs": [shown, shown]}},
            },
        },
        **raw,
        "application/octet-stream": {"schema": binary},
        "multipart/form-data": {"schema": {"type": "object", "properties": fields}},
        "application/x-ndjson": {"schema": item, "example": json.dumps(shown) + "\n"},
    }


def _model_schemas(classifier: Classifier, suffix: str) -> Json:
    labels = list(classifier.classes)
    if len(labels) <= MAX_CLASSES:
        label: Json = {"type": "string", "enum": labels}
        name: Json = {"type": "string", "enum": sorted(set(classifier.names.values()))}
    else:
        label = name = {"type": "string"}
    nullable_text = {"type": ["string", "null"]}
    return {
        f"Class{suffix}": {
            "type": "object",
            "required": ["label", "name", "probability"],
            "properties": {
                "label": label,
                "name": name,
                "probability": {"type": "number", "minimum": 0, "maximum": 1},
            },
        },
        f"Answer{suffix}": {
            "type": "object",
            "required": ["top", "known", "out_of_distribution", "reason", "error", "model", "explanation"],
            "properties": {
                "top": {
                    "type": "array",
                    "description": "The most probable classes, best first; empty where the input could not be read.",
                    "items": {"$ref": f"#/components/schemas/Class{suffix}"},
                },
                "known": {"type": "boolean", "description": "Whether the model is confident of the first class."},
                "out_of_distribution": {
                    "type": ["number", "null"],
                    "description": "How unlike the training examples the input is, from 0 to 1; 0.5 is the threshold.",
                },
                "reason": {"type": "string", "description": "Why the answer is not known."},
                "error": {
                    "type": "object",
                    "description": "Why the input could not be read.",
                    "required": ["code", "message"],
                    "properties": {"code": nullable_text, "message": nullable_text},
                },
                "model": {
                    "type": "object",
                    "description": "What answered: its registered name and version.",
                    "required": ["name", "version"],
                    "properties": {"name": {"type": "string"}, "version": nullable_text},
                },
                "explanation": {
                    "$ref": "#/components/schemas/Explanation",
                    "description": "What speaks for the class, where it was asked for.",
                },
                "request_id": {"type": "string", "description": "Beside an error alone."},
            },
        },
    }


def _explanation_schema() -> Json:
    word = {
        "type": "object",
        "required": ["text", "weight"],
        "properties": {"text": {"type": "string"}, "weight": {"type": "number"}},
    }
    return {
        "type": "object",
        "required": ["label", "heat_map", "words"],
        "properties": {
            "label": {"type": ["string", "null"], "description": "The class that is explained."},
            "heat_map": {
                "type": ["string", "null"],
                "description": "Of a picture: what the class depends on, as a PNG.",
                "contentEncoding": "base64",
                "contentMediaType": "image/png",
            },
            "words": {
                "type": "array",
                "description": "Of a text: all of it in parts; positive weights speak for the class.",
                "items": word,
            },
        },
    }


def _error_schema() -> Json:
    return {
        "type": "object",
        "required": ["error", "request_id"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            },
            "request_id": {"type": "string"},
        },
    }


def _answers(answer: Json) -> Json:
    return {
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": "array", "items": answer}},
    }


def _error_responses() -> Json:
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        status: {"description": description, "content": {JSON: {"schema": schema}}}
        for status, description in ERRORS.items()
    }


def _query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _fixed_paths() -> Json:
    described = {
        "/health": ("How each model is, with versions that were refused and why", JSON, ("200",)),
        "/ready": ("Whether requests should be sent here", JSON, ("200", "503")),
        "/metrics": ("Metrics for Prometheus", "text/plain", ("200",)),
        "/ping": ("Whether the process answers, as MLflow's server says it", JSON, ("200",)),
        "/version": ("MLflow's version", JSON, ("200",)),
    }
    return {
        path: {
            "get": {
                "operationId": path.strip("/"),
                "summary": summary,
                "responses": {status: {"description": summary, "content": {kind: {}}} for status in statuses},
            }
        }
        for path, (summary, kind, statuses) in described.items()
    }


def example(loaded: "Loaded") -> str:
    """Return an input of a model as JSON: one that was stored with it, else a sample of its task."""
    task = loaded.classifier.task
    for value in loaded.examples:
        if isinstance(value, str):
            return value if len(value) <= MAX_EXAMPLE else task.to_json(task.preview(task.from_json(value)))
    return _sample(task.INPUT, loaded.classifier.classes)


@lru_cache(8)
def _sample(column: str, classes: tuple[str, ...]) -> str:
    """Return a sample of the task with this column as JSON."""
    task = next(task for task in TASKS.values() if column == task.INPUT)
    samples = [task.to_json(sample) for sample in task.samples(classes)]
    return min(samples, key=len, default=FALLBACK)
