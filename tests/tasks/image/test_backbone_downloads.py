"""Published weights: downloads that succeed, and downloads that fail."""

import hashlib
import os
import subprocess
import sys

import pytest
import timm
from safetensors.torch import save_file
from torchvision import models

from flowerml.core.errors import DownloadError, ModelError
from flowerml.tasks.image.encoder.backbone import build
from tests.support.file_server import Response, serving
from tests.support.hub import Hub, use_hub
from tests.support.state_dicts import TIMM, has_weights, torch_bytes, whole_network

__all__ = ["use_hub"]

HUB_FILE = "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"


@pytest.fixture
def publish(monkeypatch, tmp_path):
    """Return a function that gives SqueezeNet's weights a URL; torch's cache is in the test's folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts

    def set_url(url: str):
        monkeypatch.setattr(models.SqueezeNet1_1_Weights.IMAGENET1K_V1.value, "url", url)
        return tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]

    return set_url


def file_name(content: bytes) -> str:
    return f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"


def download_error(name: str = "squeezenet1_1") -> str:
    """Return the message of a download that fails: one line, and what to do instead."""
    with pytest.raises(DownloadError) as error:
        build(name, weights="imagenet", seed=0)
    message = str(error.value)
    assert "\n" not in message
    assert "set encode.weights to its path, or encode.backbone to tf_efficientnet_lite0" in message
    return message


def test_torchvision_weights_are_cached(publish):
    state = whole_network("squeezenet1_1").state_dict()
    content = torch_bytes(state)
    with serving({file_name(content): content}) as server:
        target = publish(server.url(file_name(content)))
        assert has_weights(build("squeezenet1_1", weights="imagenet", seed=0)[0], state)
    assert target.read_bytes() == content
    assert has_weights(build("squeezenet1_1", weights="IMAGENET1K_V1", seed=0)[0], state)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(Response(404), "404"), (Response(corrupt=True), "expected sha256:"), (Response(cut=1000), "it was cut")],
    ids=["missing", "damaged", "cut"],
)
def test_a_failed_download_names_the_target(publish, answer, reason):
    content = torch_bytes(whole_network("squeezenet1_1").state_dict())
    with serving({file_name(content): content}, {file_name(content): [answer]}) as server:
        target = publish(server.url(file_name(content)))
        message = download_error()
    assert message.startswith(server.url(file_name(content)))
    assert reason in message and str(target) in message


def test_torchvision_without_a_network(publish):
    with serving({}) as server:
        target = publish(server.url("squeezenet1_1-01234567.pth"))
    assert str(target) in download_error()


def test_a_damaged_cache_file_is_named(publish):
    target = publish("http://127.0.0.1:9/squeezenet1_1-01234567.pth")
    target.parent.mkdir(parents=True)
    target.write_bytes(b"roses are red")
    with pytest.raises(DownloadError, match=rf"{target}: expected sha256:01234567, found \w+; remove it"):
        build("squeezenet1_1", weights="imagenet", seed=0)


def test_a_download_without_a_state_dict(publish):
    content = b"roses are red"
    with serving({file_name(content): content}) as server:
        publish(server.url(file_name(content)))
        with pytest.raises(ModelError, match=rf"{file_name(content)} cannot be read"):
            build("squeezenet1_1", weights="imagenet", seed=0)


def safetensors_bytes(path) -> bytes:
    save_file(whole_network(TIMM).state_dict(), path)
    return path.read_bytes()


def test_timm_weights_ask_only_the_hub(tmp_path):
    program = (
        f"from flowerml.tasks.image.encoder.backbone import build; print(build({TIMM!r}, weights='imagenet', seed=0))"
    )
    with Hub({HUB_FILE: safetensors_bytes(tmp_path / "a.safetensors")}) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "no_proxy": "127.0.0.1"}
        subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, check=True)
    assert set(hub.requests) == {f"HEAD {HUB_FILE}", f"GET {HUB_FILE}"}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_timm_weights_are_cached(use_hub, tmp_path, file):
    state = whole_network(TIMM).state_dict()
    content = safetensors_bytes(tmp_path / "a.safetensors") if file.endswith("safetensors") else torch_bytes(state)
    with Hub({HUB_FILE.replace("model.safetensors", file): content}) as hub:
        use_hub(hub.url)
        assert has_weights(build(TIMM, weights="imagenet", seed=0)[0], state)
    assert has_weights(build(TIMM, weights="imagenet", seed=0)[0], state)


def test_timm_without_a_network(use_hub):
    with Hub({}) as hub:
        use_hub(hub.url)
    assert download_error(TIMM).startswith(f"{hub.url}{HUB_FILE}: ")


def test_a_repository_without_weights(use_hub):
    with Hub({"/timm/test_resnet.r160_in1k/resolve/main/README.md": b"#"}) as hub:
        use_hub(hub.url)
        assert download_error(TIMM).startswith(
            "timm/test_resnet.r160_in1k on the Hugging Face Hub has neither model.safetens"
        )


def test_a_missing_repository(use_hub):
    with Hub({}) as hub:
        use_hub(hub.url)
        assert download_error(TIMM).startswith(f"{hub.url}{HUB_FILE}: 404")


def test_a_hub_file_without_a_state_dict(use_hub):
    with Hub({HUB_FILE: b"roses are red"}) as hub:
        use_hub(hub.url)
        with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
            build(TIMM, weights="imagenet", seed=0)


def test_timm_weights_at_a_plain_url(publish, monkeypatch):
    state = whole_network(TIMM).state_dict()
    content = torch_bytes(state)
    with serving({"a-0123.pth": content}) as server:
        publish(server.url("a-0123.pth"))
        plain = timm.models.PretrainedCfg(url=server.url("a-0123.pth"), input_size=(3, 160, 160))
        monkeypatch.setitem(timm.models._registry._model_pretrained_cfgs, TIMM.removeprefix("timm/"), plain)
        assert has_weights(build(TIMM, weights="imagenet", seed=0)[0], state)


def test_unpublished_weights_are_rejected():
    with pytest.raises(ModelError, match="no weights are published for timm/ghostnet_050"):
        build("timm/ghostnet_050", weights="imagenet", seed=0)
