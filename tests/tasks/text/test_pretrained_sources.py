"""Where pretrained encoders come from: folders that are none, damaged files, and downloads from the Hub."""

import json
import os
import subprocess
import sys

import pytest

from flowerml.core.errors import DownloadError, ModelError
from flowerml.tasks.text.encoder import backbone
from flowerml.tasks.text.encoder.backbone import build
from tests.support.encoders import section, write_encoder
from tests.support.hub import Hub, use_hub

__all__ = ["use_hub"]

NAME = "owner/tiny"


def refusal(name: object, **changes: object) -> str:
    """Return the one line with which an encoder is refused."""
    with pytest.raises(ModelError) as error:
        build(section(name, **changes))
    message = str(error.value)
    assert message.isprintable() and len(message) < 700, message
    return message


@pytest.fixture
def folder(tmp_path):
    return write_encoder(tmp_path / "tiny")


def set_config(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ["bert-base-uncased", "hf/tiny", "hf/a/b/c", "hf//b", "/nowhere", "."])
def test_a_name_that_is_none(name):
    assert refusal(name).startswith("encode.backbone: ")


def test_a_name_says_what_is_expected():
    assert refusal("minilm") == (
        "encode.backbone: expected hf/OWNER/NAME of the Hugging Face Hub, such as "
        "hf/sentence-transformers/all-MiniLM-L6-v2, or a folder in its layout; there is no folder 'minilm'"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "vit"}, "of the family 'vit'"),
        ({"model_type": None}, "of the family 'none'"),
        ({"model_type": ["bert"]}, "of the family 'none'"),
        ({"is_decoder": True}, "is a decoder"),
        ({"num_hidden_layers": 4}, "do not fit its config.json: 16 are missing or of another shape"),
        ({"hidden_size": 32}, "do not fit its config.json"),
        ({"hidden_size": "wide"}, "cannot be read"),
        ({"vocab_size": 60}, "do not fit its config.json"),
    ],
)
def test_another_model_is_refused(folder, changes, reason):
    set_config(folder, **changes)
    assert reason in refusal(folder)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", None, "has no config.json; expected a folder with"),
        ("config.json", b"{", "is not JSON"),
        ("config.json", b"[]", "of the family 'none'"),
        ("model.safetensors", None, "has no weights; expected model.safetensors or pytorch_model.bin"),
        ("model.safetensors", b"", "cannot be read"),
        ("model.safetensors", b"\xff" * 100, "cannot be read"),
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("tokenizer.json", b"{}", "tokenizer.json is no tokenizer: "),
        ("modules.json", b"nothing", "is not JSON"),
    ],
)
def test_a_damaged_folder_is_refused(folder, name, content, reason):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert reason in refusal(folder)


def test_weights_that_are_cut_short(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cannot be read" in refusal(folder)


def test_more_tokens_than_positions(folder):
    assert f"encode.max_tokens: expected at most 44 for {folder}, found 45" in refusal(folder, max_tokens=45)
    assert build(section(folder, max_tokens=44)).tokens.max_tokens == 44


def test_weights_that_no_graph_can_hold(folder, monkeypatch):
    monkeypatch.setattr(backbone, "MAX_SIZE", 10_000)
    assert "and an ONNX graph holds at most 0.0 GB; choose a smaller encoder" in refusal(folder)


def test_the_tokenizer_of_another_model(folder, tmp_path):
    other = write_encoder(tmp_path / "other", vocab_size=60)
    (other / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert "but its embeddings only 60; expected files of one model" in refusal(other)


def test_weights_that_would_run_code(folder):
    import pickle

    class Run:
        def __reduce__(self):
            return os.mkdir, (str(folder / "ran"),)

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Run()}))
    assert "cannot be read" in refusal(folder)
    assert not (folder / "ran").exists()


def test_a_licence_is_that_of_the_card(folder):
    assert build(section(folder)).facts["licence"] is None
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: 'mit'\n---\nlicense: other\n")
    assert build(section(folder)).facts["licence"] == "mit"


def published(folder, revision: str = "main") -> dict[str, bytes]:
    """Return the files of a repository by the paths of their addresses."""
    return {f"/{NAME}/resolve/{revision}/{path.name}": path.read_bytes() for path in folder.iterdir()}


def with_commit(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return them under the address of the commit as well, which the Hub names with the first file."""
    return {**files, **{path.replace("/main/", f"/{'0' * 40}/"): content for path, content in files.items()}}


def test_an_encoder_of_the_hub_is_downloaded_once(folder, use_hub):
    with Hub(with_commit(published(folder))) as hub:
        use_hub(hub.url)
        first = build(section(f"hf/{NAME}"))
    again = build(section(f"hf/{NAME}"))
    assert first.facts == again.facts and first.facts["name"] == f"hf/{NAME}"
    assert first.tokens == again.tokens


def test_a_revision_is_asked_for(folder, use_hub):
    with Hub(with_commit(published(folder)) | published(folder, "v2")) as hub:
        use_hub(hub.url)
        build(section(f"hf/{NAME}@v2"))
        assert hub.requests[0] == f"HEAD /{NAME}/resolve/v2/config.json"


def test_another_family_is_refused_before_its_weights(folder, use_hub):
    set_config(folder, model_type="vit")
    with Hub(with_commit(published(folder))) as hub:
        use_hub(hub.url)
        assert "expected an encoder of texts" in refusal(f"hf/{NAME}")
        assert not [request for request in hub.requests if "safetensors" in request]


def test_without_a_network_the_files_are_named(use_hub):
    with Hub({}) as hub:
        use_hub(hub.url)
    with pytest.raises(DownloadError) as error:
        build(section(f"hf/{NAME}"))
    message = str(error.value)
    assert message.startswith(f"{hub.url}/{NAME}/resolve/main/config.json: ")
    assert message.endswith(
        "; or download config.json, tokenizer.json and model.safetensors by hand into a folder and set encode.backbone "
        "to its path"
    )


def test_a_repository_without_weights(folder, use_hub):
    (folder / "model.safetensors").unlink()
    with Hub(with_commit(published(folder))) as hub:
        use_hub(hub.url)
        assert f"hf/{NAME} has no weights" in refusal(f"hf/{NAME}")


def test_only_the_hub_is_asked(folder, tmp_path):
    program = f"""
from flowerml.tasks.text.encoder.backbone import build
from tests.support.encoders import section
print(build(section("hf/{NAME}")).facts["features"])
"""
    with Hub(with_commit(published(folder))) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "no_proxy": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **environment}, check=True, capture_output=True
        )
    assert done.stdout == b"16\n"
    assert {request.split("/resolve/")[0] for request in hub.requests} == {f"HEAD /{NAME}", f"GET /{NAME}"}
