"""Published weights: downloads that go well, and downloads that go wrong."""

import hashlib
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import timm
from huggingface_hub import constants
from safetensors.torch import save_file
from torchvision import models

from flowerml.core.errors import DownloadError, ModelError
from flowerml.tasks.image.encoder.backbone import build
from tests.support.file_server import Answer, serving
from tests.support.state_dicts import TIMM, holds, in_bytes, network_of

HUB_FILE = "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Lets the weights of SqueezeNet be at a URL of ours, and torch's cache be in this test's folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts

    def publish(url: str):
        monkeypatch.setattr(models.SqueezeNet1_1_Weights.IMAGENET1K_V1.value, "url", url)
        return tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]

    return publish


def named(content: bytes) -> str:
    return f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"


def refused(name: str = "squeezenet1_1") -> str:
    with pytest.raises(DownloadError) as caught:
        build(name, weights="imagenet", seed=0)
    assert "\n" not in str(caught.value)
    assert "set encode.weights to its path, or encode.backbone to tf_efficientnet_lite0" in str(caught.value)
    return str(caught.value)


def test_torchvisions_weights_are_downloaded_once_into_torchs_cache(published):
    state = network_of("squeezenet1_1").state_dict()
    content = in_bytes(state)
    with serving({named(content): content}) as server:
        target = published(server.url(named(content)))
        assert holds(build("squeezenet1_1", weights="imagenet", seed=0)[0], state)
    assert target.read_bytes() == content
    assert holds(build("squeezenet1_1", weights="IMAGENET1K_V1", seed=0)[0], state)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(Answer(404), "404"), (Answer(corrupt=True), "expected sha256:"), (Answer(cut=1000), "it was cut")],
    ids=["missing", "damaged", "cut"],
)
def test_a_download_that_fails_says_where_to_put_the_file_and_what_else_to_do(published, answer, reason):
    content = in_bytes(network_of("squeezenet1_1").state_dict())
    with serving({named(content): content}, {named(content): [answer]}) as server:
        target = published(server.url(named(content)))
        message = refused()
    assert message.startswith(server.url(named(content)))
    assert reason in message and str(target) in message


def test_without_a_network_torchvisions_weights_are_refused(published):
    with serving({}) as server:
        target = published(server.url("squeezenet1_1-01234567.pth"))
    assert str(target) in refused()


def test_a_damaged_file_in_torchs_cache_is_named(published):
    target = published("http://127.0.0.1:9/squeezenet1_1-01234567.pth")
    target.parent.mkdir(parents=True)
    target.write_bytes(b"roses are red")
    with pytest.raises(DownloadError, match=rf"{target}: expected sha256:01234567, found \w+; remove it"):
        build("squeezenet1_1", weights="imagenet", seed=0)


def test_a_published_file_that_is_no_state_dict_is_refused(published):
    content = b"roses are red"
    with serving({named(content): content}) as server:
        published(server.url(named(content)))
        with pytest.raises(ModelError, match=rf"{named(content)} cannot be read"):
            build("squeezenet1_1", weights="imagenet", seed=0)


class Hub(ThreadingHTTPServer):
    """As much of the Hugging Face Hub as it takes to download a file: `files` by path."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.files = files
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _HubHandler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.requests.append(f"{self.command} {self.path}")
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("X-Repo-Commit", "0" * 40)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound" if self.server.files else "RepoNotFound")
        else:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.server.files.get(self.path, b""))

    def log_message(self, *_):
        pass


@pytest.fixture
def at(monkeypatch, tmp_path):
    """Lets the Hub be at a URL of ours, and its cache be in this test's folder."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def point(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")

    return point


def in_safetensors(path) -> bytes:
    save_file(network_of(TIMM).state_dict(), path)
    return path.read_bytes()


def test_timms_weights_come_from_the_hub_once_and_nobody_else_is_told(tmp_path):
    program = (
        f"from flowerml.tasks.image.encoder.backbone import build; print(build({TIMM!r}, weights='imagenet', seed=0))"
    )
    with Hub({HUB_FILE: in_safetensors(tmp_path / "a.safetensors")}) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "no_proxy": "127.0.0.1"}
        subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, check=True)
    assert set(hub.requests) == {f"HEAD {HUB_FILE}", f"GET {HUB_FILE}"}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_timms_weights_are_read_from_the_hubs_cache_when_there_is_no_network(at, tmp_path, file):
    state = network_of(TIMM).state_dict()
    content = in_safetensors(tmp_path / "a.safetensors") if file.endswith("safetensors") else in_bytes(state)
    with Hub({HUB_FILE.replace("model.safetensors", file): content}) as hub:
        at(hub.url)
        assert holds(build(TIMM, weights="imagenet", seed=0)[0], state)
    assert holds(build(TIMM, weights="imagenet", seed=0)[0], state)


def test_without_a_network_timms_weights_are_refused_at_once(at):
    with Hub({}) as hub:
        at(hub.url)
    assert refused(TIMM).startswith(f"{hub.url}{HUB_FILE}: ")


def test_a_repository_without_weights_is_named(at):
    with Hub({"/timm/test_resnet.r160_in1k/resolve/main/README.md": b"#"}) as hub:
        at(hub.url)
        assert refused(TIMM).startswith("timm/test_resnet.r160_in1k on the Hugging Face Hub has neither model.safetens")


def test_a_repository_that_is_not_there_is_named(at):
    with Hub({}) as hub:
        at(hub.url)
        assert refused(TIMM).startswith(f"{hub.url}{HUB_FILE}: 404")


def test_a_file_of_the_hub_that_is_no_state_dict_is_refused(at):
    with Hub({HUB_FILE: b"roses are red"}) as hub:
        at(hub.url)
        with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
            build(TIMM, weights="imagenet", seed=0)


def test_timms_weights_that_are_at_a_plain_url_are_fetched_as_torchvisions(published, monkeypatch):
    state = network_of(TIMM).state_dict()
    content = in_bytes(state)
    with serving({"a-0123.pth": content}) as server:
        published(server.url("a-0123.pth"))
        plain = timm.models.PretrainedCfg(url=server.url("a-0123.pth"), input_size=(3, 160, 160))
        monkeypatch.setitem(timm.models._registry._model_pretrained_cfgs, TIMM.removeprefix("timm/"), plain)
        assert holds(build(TIMM, weights="imagenet", seed=0)[0], state)


def test_weights_that_nobody_published_are_refused():
    with pytest.raises(ModelError, match="nobody published weights for timm/ghostnet_050; expected none or the path"):
        build("timm/ghostnet_050", weights="imagenet", seed=0)
