"""Any damaged or forged classifier ends in a ModelError of one line or in right answers, in bounded time.

A few variants of each kind in `make test`; FLOWERML_EXAMPLES=1000 tries as many of each.
"""

import copy
import hashlib
import json
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mlflow.pyfunc import PythonModelContext
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from flowerml import Classifier
from flowerml.classifier.warm_start import WarmStart
from flowerml.cli.info import _rows, describe
from flowerml.core.errors import InputError, ModelError
from flowerml.engine.onnx import session
from flowerml.serving.pyfunc import ClassifierModel
from tests.classifier.test_old_classifiers import SAVED, THEN

EXAMPLES = int(os.environ.get("FLOWERML_EXAMPLES", "0"))
FEW = 40
SECONDS = 20.0  # for one variant, on a busy machine; nearly all take a hundredth of a second
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    10**400,
    1e308,
    -0.5,
    math.nan,
    math.inf,
    "",
    "x",
    "x" * 20_000,
    "\x1b[2J\u202e\u009b1m",
    "\ud800",
    "\0",
    [],
    [1],
    ["a", "a"],
    [[]] * 3,
    {},
    {"a": 1},
)


def outcome(folder: Path, *, warm: bool = False) -> str:
    """Return what loading and predicting ends in; fails for a raw error, and where it takes too long."""
    start = time.monotonic()
    try:
        if warm:
            WarmStart.load(folder)
            return "loaded"
        classifier = Classifier.load(folder)
        for answer in classifier.predict_each(THEN["texts"]):
            if isinstance(answer, InputError):
                assert answer.code in ("network_failed", "not_finite", "text_too_long"), answer
                continue
            assert all(0 <= entry.probability <= 1 for entry in answer.top)
            assert sum(entry.probability for entry in answer.top) == pytest.approx(1)
        return "answered"
    except ModelError as error:
        assert str(error).isprintable() and len(str(error)) < 1000, error
        return "refused"
    finally:
        assert time.monotonic() - start < SECONDS


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each value within plain data; of a list its first."""
    if at:
        yield at
    keys = list(value) if isinstance(value, dict) else [0] if isinstance(value, list) and value else []
    for key in keys:
        yield from places(value[key], (*at, key))


def replaced(description: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return the description with the value at a place replaced, removed (`...`) or put in a list (`list`)."""
    description = copy.deepcopy(description)
    inner: Any = description
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = [inner[at[-1]]] if value is list else value
    return description


def json_variants() -> Iterator[bytes]:
    """Yield contents of classifier.json: each value missing, nested or of another type, and broken JSON."""
    original = json.loads((SAVED / "classifier.json").read_text())
    text = json.dumps(original)
    yield from (b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, text[:-1].encode(), text.encode("utf-16"))
    yield text.replace('"format": 1', '"format": 1, "format": 1').encode()
    yield (text[:-1] + ', "x": ' + "[" * 5000 + "]" * 5000 + "}").encode()
    for at in places(original):
        for value in (..., list, *VALUES):
            yield json.dumps(replaced(original, at, value)).encode()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a copy of a classifier, without digests, so that what is forged gets past them."""
    return Path(shutil.copytree(SAVED, tmp_path / "c"))


def some(variants: Iterator[Any]) -> list[Any]:
    """Return some of the variants, the same at every run; with FLOWERML_EXAMPLES as many."""
    listed = list(variants)
    return random.Random(0).sample(listed, min(len(listed), EXAMPLES or FEW))


def test_descriptions(folder):
    for content in some(json_variants()):
        (folder / "classifier.json").write_bytes(content)
        outcome(folder)


def flipped(content: bytes, count: int) -> Iterator[bytes]:
    """Yield contents that are cut, or of which a few bytes are others; half of the bytes near the ends."""
    rng = random.Random(1)
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 8)):
            region = rng.choice([200, 5000, len(content)])
            changed[rng.choice([1, -1]) * rng.randrange(1, min(region, len(content)))] = rng.randrange(256)
        yield bytes(changed[: rng.randrange(len(changed))]) if rng.random() < 0.2 else bytes(changed)


@pytest.mark.parametrize("name", ["network.onnx", "weights.safetensors"])
def test_flipped_bytes(folder, name):
    for content in flipped((SAVED / name).read_bytes(), EXAMPLES or FEW):
        (folder / name).write_bytes(content)
        outcome(folder, warm=name == "weights.safetensors")


def test_safetensors_headers(folder):
    for header in (
        b"",
        b"{}",
        b"null",
        b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}',
        b"[" * 10_000,
    ):
        for length in (len(header), 2**63, 10**8):
            (folder / "weights.safetensors").write_bytes(length.to_bytes(8, "little") + header + b"\0\0\0\0")
            outcome(folder, warm=True)


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, outputs, **attributes)


def graph(*nodes: onnx.NodeProto, functions: tuple[Any, ...] = (), **constants: Any) -> bytes:
    """Return a graph of a text that adds `extra`, which the nodes compute, to logits [B, 2]."""
    inputs = [
        helper.make_tensor_value_info("stems", TensorProto.INT64, ["b", "t"]),
        helper.make_tensor_value_info("stem_lengths", TensorProto.INT64, ["b"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    base = [
        node("Cast", ["stem_lengths"], ["lengths"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["lengths", "axis"], ["column"]),
        node("Mul", ["column", "row"], ["base"]),
    ]
    tail = [node("Add", ["base", "extra"], ["logits"])]
    arrays = {"axis": np.array([1]), "row": np.array([[0.1, 0.2]], np.float32), **constants}
    initializers = [
        array if isinstance(array, TensorProto) else numpy_helper.from_array(np.asarray(array), name)
        for name, array in arrays.items()
    ]
    for initializer, name in zip(initializers, arrays, strict=True):
        initializer.name = name
    made = helper.make_graph([*base, *nodes, *tail], "g", inputs, outputs, initializer=initializers)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("x", 1)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=9, functions=functions).SerializeToString())


def laughs() -> tuple[onnx.FunctionProto, ...]:
    """Return functions that call each other twice, 30 levels deep."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("x", 1)]
    functions = [helper.make_function("x", "f0", ["a"], ["b"], [node("Relu", ["a"], ["b"])], opsets)]
    for level in range(1, 30):
        inner = f"f{level - 1}"
        calls = [node(inner, ["a"], ["t"], domain="x"), node(inner, ["t"], ["b"], domain="x")]
        functions.append(helper.make_function("x", f"f{level}", ["a"], ["b"], calls, opsets))
    return tuple(functions)


def tensor(dims: list[int], **fields: Any) -> TensorProto:
    made = TensorProto(data_type=TensorProto.FLOAT, dims=dims)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def external() -> TensorProto:
    made = tensor([1], data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="location", value="../../../../etc/passwd")
    return made


def loop() -> onnx.NodeProto:
    body = helper.make_graph(
        [node("Identity", ["c"], ["c2"]), node("Identity", ["v"], ["v2"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, None),
        ],
    )
    return node("Loop", ["n", "yes", "base"], ["extra"], body=body)


FORGED: dict[str, Callable[[], bytes]] = {
    "loop": lambda: graph(loop(), n=np.int64(2**62), yes=np.array(True)),
    "functions": lambda: graph(node("f29", ["base"], ["extra"], domain="x"), functions=laughs()),
    "other domain": lambda: graph(node("Gelu", ["base"], ["extra"], domain="com.microsoft")),
    "huge": lambda: graph(node("ReduceSum", ["big"], ["extra"], keepdims=0), big=tensor([2**20, 2**20])),
    "overflow": lambda: graph(node("ReduceSum", ["big"], ["extra"], keepdims=0), big=tensor([2**32, 2**32])),
    "negative": lambda: graph(node("ReduceSum", ["big"], ["extra"], keepdims=0), big=tensor([-1, 4])),
    "external": lambda: graph(node("Identity", ["file"], ["extra"]), file=external()),
    "many nodes": lambda: graph(
        *(node("Relu", ["base"], [f"r{number}"]) for number in range(25_000)), node("Relu", ["base"], ["extra"])
    ),
    "memory": lambda: graph(
        node("ConstantOfShape", ["shape"], ["big"]),
        node("ReduceSum", ["big"], ["extra"], keepdims=0),
        shape=np.array([2**20, 2**21]),
    ),
    "nan": lambda: graph(node("Div", ["zero", "zero"], ["extra"]), zero=np.float32(0)),
    "infinite": lambda: graph(node("Identity", ["value"], ["extra"]), value=np.float32(np.inf)),
    "three classes": lambda: graph(
        node("Concat", ["base", "base"], ["four"], axis=1), node("Identity", ["zero"], ["extra"]), zero=np.zeros((1, 3))
    ),
    "no rows": lambda: graph(node("Identity", ["zero"], ["extra"]), zero=np.zeros((0, 2), np.float32)),
    "cubic": lambda: graph(node("Identity", ["zero"], ["extra"]), zero=np.zeros((5, 1, 2), np.float32)),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_graphs_are_refused(folder, name):
    (folder / "network.onnx").write_bytes(FORGED[name]())
    assert outcome(folder) == "refused"


def test_a_forged_graph_that_works_is_answered(folder):
    (folder / "network.onnx").write_bytes(graph(node("Identity", ["zero"], ["extra"]), zero=np.float32(0)))
    assert outcome(folder) == "answered"


def test_a_session_folds_no_constants():
    """While a session was made, these 2 kB would multiply two matrices of 8000 x 8000."""
    nodes = [
        node("ConstantOfShape", ["shape"], ["big"]),
        node("MatMul", ["big", "big"], ["product"]),
        node("ReduceSum", ["product"], ["extra"], keepdims=0),
    ]
    start = time.process_time()
    session(graph(*nodes, shape=np.array([8000, 8000])), threads=1)
    assert time.process_time() - start < 1


ENTRIES: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "empty device": lambda path: path.symlink_to("/dev/null"),
    "link to itself": lambda path: path.symlink_to(path),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "empty": lambda path: path.touch(),
    "sparse": lambda path: os.truncate(path, 2**40) if path.touch() is None else None,
}


@pytest.mark.parametrize("name", ["classifier.json", "network.onnx", "weights.safetensors"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_entries_of_the_folder(folder, name, entry):
    (folder / name).unlink()
    ENTRIES[entry](folder / name)
    assert outcome(folder, warm=True) == "refused"


@pytest.mark.parametrize("name", ["network.onnx", "weights.safetensors"])
def test_damage_is_found_by_its_digest(folder, name):
    description = json.loads((folder / "classifier.json").read_text())
    files = ("network.onnx", "weights.safetensors")
    description["digests"] = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files}
    (folder / "classifier.json").write_text(json.dumps(description))
    assert outcome(folder, warm=True) == "loaded"
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} is not the file that was saved"):
        WarmStart.load(folder)


def test_a_dictionary_larger_than_the_network(folder):
    """The network fails for a text with such a stem, and answers the other texts of the batch."""
    description = json.loads((folder / "classifier.json").read_text())
    description["encoder"]["vocabulary"] += ["zebra"]
    (folder / "classifier.json").write_text(json.dumps(description))
    try:
        answers = list(Classifier.load(folder).predict_each(["a zebra", *THEN["texts"]]))
    except ModelError:
        return
    assert isinstance(answers[0], InputError) and answers[0].code == "network_failed"
    assert not any(isinstance(answer, InputError) for answer in answers[1:])


def test_without_digests_there_is_a_warning(folder, capsys):
    Classifier.load(folder)
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {folder} was saved by an earlier version, without digests: damaged files may go unnoticed"
    ]


HEADERS = (
    b"",
    b"\xff" * 8,
    (2**40).to_bytes(8, "little"),
    (0).to_bytes(8, "little"),
    (4).to_bytes(8, "little") + b"{\x1b}}",
    *(
        len(header).to_bytes(8, "little") + header
        for header in (
            b"null",
            b"[]",
            b"[" * 10_000,
            b'{"a":1}',
            b'{"a":{}}',
            b'{"a":{"shape":"x"}}',
            b'{"a":{"shape":[-1]}}',
            b'{"a":{"shape":[' + b"9" * 5000 + b"]}}",
            b'{"a":{"shape":' + b"[1" + b",1" * 10_000 + b"]}}",
            b'{"\\u001b[2J\\u202e":{"shape":[null]}}',
        )
    ),
)


@pytest.mark.parametrize("content", HEADERS)
def test_counting_hostile_weights(folder, content):
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read") as refused:
        describe(folder)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 500


def test_weights_are_counted(folder):
    with safe_open(folder / "weights.safetensors", "numpy") as file:
        expected = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    assert describe(folder)["weights"] == expected
    (folder / "weights.safetensors").unlink()
    assert describe(folder)["weights"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data.source", ["x"]),
        ("data.text_column", {}),
        ("data.text_column", True),
        ("train.hidden_units", 5),
        ("encode.weights", 5),
        ("trained.best_valid_accuracy", "x"),
        ("trained.pipeline", 3),
    ],
)
def test_facts_of_other_types(folder, name, value):
    description = json.loads((folder / "classifier.json").read_text())
    section, _, fact = name.partition(".") if name.startswith("trained.") else ("parameters", ".", name)
    description[section][fact] = value
    (folder / "classifier.json").write_text(json.dumps(description))
    assert outcome(folder) == "refused"


def test_descriptions_are_shown_or_refused(folder):
    """As `flowerml info` does; other parameters than those of its own version are shown as they are."""
    for content in some(json_variants()):
        (folder / "classifier.json").write_bytes(content)
        try:
            rows = _rows(describe(folder))
        except ModelError as error:
            assert str(error).isprintable(), error
        else:
            assert all(isinstance(cell, str) for row in rows for cell in row)


def rewritten(folder: Path, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], prefix: str) -> None:
    """Change the weights of these names."""
    path = folder / "weights.safetensors"
    arrays = {name: change(array) if name.startswith(prefix) else array for name, array in load_file(path).items()}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(folder, value):
    rewritten(folder, lambda array: np.where(np.arange(array.size).reshape(array.shape) == 0, value, array), "network.")
    with pytest.raises(ModelError, match=r"in weights\.safetensors is not finite; copy the whole folder") as error:
        WarmStart.load(folder)
    assert len(str(error.value).splitlines()) == 1


def sometimes_nan() -> bytes:
    """Return a graph that divides 0 by (length - 3): not a number for a text of three stems, and 0 for others."""
    return graph(
        node("Sub", ["column", "three"], ["rest"]),
        node("Mul", ["rest", "zero"], ["nothing"]),
        node("Div", ["nothing", "rest"], ["extra"]),
        three=np.float32(3),
        zero=np.float32(0),
    )


def test_an_answer_that_is_not_finite(folder):
    """The other texts of the batch are answered as they are without it."""
    (folder / "network.onnx").write_bytes(sometimes_nan())
    classifier = Classifier.load(folder)
    known = classifier.description["encoder"]["vocabulary"][:5]
    texts = [" ".join(known[:count]) for count in (1, 2, 3, 4, 3, 5)]
    lengths = [classifier.preprocessing.collate([classifier.preprocessing.transform(text)]) for text in texts]
    assert [int(inputs["stem_lengths"][0]) for inputs in lengths] == [1, 2, 3, 4, 3, 5]
    answers = list(classifier.predict_each(texts))
    codes = [answer.code if isinstance(answer, InputError) else None for answer in answers]
    assert codes == [None, None, "not_finite", None, "not_finite", None]
    readable = [text for text, code in zip(texts, codes, strict=True) if code is None]
    assert [answer for answer in answers if not isinstance(answer, InputError)] == classifier.predict(readable)


@pytest.mark.parametrize("meta", ["", "[", "- a", "model_name: [a]", "[" * 5000, "x" * 200_000, "model_name: \x00"])
def test_a_served_model_without_its_origin(folder, meta):
    """It is called by its kind where nothing says the pipeline or the version."""
    description = json.loads((folder / "classifier.json").read_text())
    description["trained"] = {}
    (folder / "classifier.json").write_text(json.dumps(description))
    (folder.parent / "registered_model_meta").write_text(meta)
    model = ClassifierModel()
    model.load_context(PythonModelContext({"classifier": str(folder)}, {}))
    assert model.answering.model == {"name": "text", "version": None}
