"""docs/reference/http.md: what `flowerml serve` answers, from its own OpenAPI document, and the codes of its errors."""

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from docsite.reference.tables import COMMENT, code, join, table
from flowerml.server import errors, openapi
from flowerml.tasks.registry import TASKS

SERVED = {
    "image": {"daisy": "daisy", "rose": "rose"},
    "text": {"neg": "negative", "pos": "positive"},
}
SERVER = Path(errors.__file__).parent
PACKAGE = SERVER.parent


def page() -> str:
    """Return the page."""
    documents = {kind: openapi.document({kind: _loaded(kind)}, has_token=False) for kind in TASKS}
    paths = documents["text"]["paths"]
    intro = (
        "`flowerml serve` answers these paths; `/openapi.json` is the same in OpenAPI 3.1, with the classes of the "
        "models that are loaded. A server of several models has `/models/NAME/predict` and `/models/NAME/invocations` "
        "for each."
    )
    summary = table(
        ["path", "method", "what it does"],
        [[code(path), method.upper(), _summary(path, method, documents)] for path, method, _ in _entries(paths)],
    )
    return join(
        COMMENT,
        "# HTTP",
        intro,
        summary,
        "## predict",
        _operation(paths["/predict"]["post"]),
        _bodies(documents),
        "## invocations",
        paths["/invocations"]["post"]["summary"] + ". A body is one of:",
        _protocol(paths["/invocations"]["post"]),
        "## An answer",
        _fields(documents["text"]["components"]["schemas"]["Answer"]),
        "`explanation` is filled where `explain` is true:",
        _fields(documents["text"]["components"]["schemas"]["Explanation"]),
        "## Errors",
        'An error is `{"error": {"code": …, "message": …}, "request_id": …}`. Its status:',
        table(["status", "meaning"], [[code(status), text] for status, text in openapi.ERRORS.items()]),
        "Codes are stable names for programs:",
        table(["status", "codes"], [[code(status), _codes(names)] for status, names in sorted(refusals().items())]),
        "An input that cannot be read has a code in its own answer's `error`, beside the answers to the others: "
        + _codes(unreadable())
        + ".",
    )


def _loaded(kind: str) -> Any:
    """Return what the document asks of a model that is loaded."""
    names = SERVED[kind]
    classifier = SimpleNamespace(task=TASKS[kind], classes=tuple(names), names=names)
    return cast(Any, SimpleNamespace(classifier=classifier, model={"name": kind, "version": "1"}, examples=["…"]))


def _entries(paths: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for path, methods in paths.items():
        for method, entry in methods.items():
            yield path, method, entry


def _summary(path: str, method: str, documents: Mapping[str, Any]) -> str:
    """Return what an operation does, for each kind where it differs."""
    return " / ".join(dict.fromkeys(document["paths"][path][method]["summary"] for document in documents.values()))


def _operation(operation: Mapping[str, Any]) -> str:
    rows = [
        [code(item["name"]), _type(item["schema"]), code(json.dumps(item["schema"]["default"])), item["description"]]
        for item in operation["parameters"]
    ]
    return "Parameters of the query, or of `parameters` in JSON:\n\n" + table(
        ["parameter", "type", "default", "meaning"], rows
    )


def _bodies(documents: Mapping[str, Any]) -> str:
    """Return the kinds of bodies, and which tasks take them."""
    kinds: dict[str, list[str]] = {}
    for kind, document in documents.items():
        for content in document["paths"]["/predict"]["post"]["requestBody"]["content"]:
            kinds.setdefault(content, []).append(kind)
    rows = [
        [code(content), "all" if len(of) == len(documents) else ", ".join(of), BODIES.get(content, "")]
        for content, of in kinds.items()
    ]
    return "Bodies, by their `Content-Type`:\n\n" + table(["content type", "kinds", "the body"], rows)


BODIES = {
    "application/json": '`{"inputs": …, "parameters": {…}}`: one input or a list; a picture is base64 or a data URI',
    "image/*": "the bytes of a picture",
    "text/plain": "a text; its charset may be named",
    "application/octet-stream": "the bytes of one input",
    "multipart/form-data": "a form with `files`, and `text` for texts; `top_k` and `explain`",
    "application/x-ndjson": "an input a line as JSON; the answers come a line each, while the body is still being sent",
}


def _protocol(operation: Mapping[str, Any]) -> str:
    content = operation["requestBody"]["content"]
    properties = content["application/json"]["schema"]["properties"]
    keys = ", ".join(code(key) for key in properties if key != "params")
    example = json.dumps(content["application/json"]["example"], ensure_ascii=False)
    others = ", ".join(code(kind) for kind in content if kind != "application/json")
    return join(
        f"- `application/json` with one of the keys {keys}, and `params` beside it\n"
        f"- {others}, with the column's name in the first line",
        f"```json\n{example}\n```",
    )


def _fields(schema: Mapping[str, Any]) -> str:
    rows = [[code(name), _type(part), part.get("description", "")] for name, part in schema["properties"].items()]
    return table(["key", "type", "meaning"], rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2].lower()
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    if kind == "object" and "properties" in schema:
        return "object with " + ", ".join(code(name) for name in schema["properties"])
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _codes(names: set[str]) -> str:
    return ", ".join(code(name) for name in sorted(names))


def refusals() -> dict[int, set[str]]:
    """Return the codes of the errors that the server raises, by status."""
    codes: dict[int, set[str]] = {}
    for arguments in _calls(SERVER, "HttpError"):
        if len(arguments) >= 2 and isinstance(arguments[0], int) and isinstance(arguments[1], str):
            codes.setdefault(arguments[0], set()).add(arguments[1])
    busy = errors.Busy(1)
    codes.setdefault(busy.status, set()).add(busy.code)
    return codes


def unreadable() -> set[str]:
    """Return the codes of inputs that cannot be read."""
    return {
        str(arguments[0]) for arguments in _calls(PACKAGE, "InputError") if arguments and isinstance(arguments[0], str)
    }


def _calls(folder: Path, name: str) -> Iterator[list[Any]]:
    """Yield the constants that are passed to each call of `name` in a folder's modules; None for other values."""
    for file in sorted(folder.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if f"{name}(" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args]
