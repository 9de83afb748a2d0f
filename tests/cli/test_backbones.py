"""`flowerml backbones`: networks whose weights are in a cache are ranked, and their encodings are kept."""

import json
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.pipeline import backbones
from flowerml.tasks.image import available
from flowerml.tasks.image.sample import SPECIES, jpeg
from flowerml.tasks.records import Backbone

RESNET, VIT = "timm/test_resnet.r160_in1k", "timm/test_vit.r160_in1k"  # of 0.5 million weights
COMMIT = "0" * 40


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder with pictures of two species, and a Hub's cache with random weights of two tiny networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in (RESNET, VIT):
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        for place in ("refs", f"snapshots/{COMMIT}"):
            (repository / place).mkdir(parents=True)
        (repository / "refs/main").write_text(COMMIT)
        torch.manual_seed(0)
        network = timm.create_model(name.removeprefix("timm/"))
        save_file(network.state_dict(), repository / f"snapshots/{COMMIT}/model.safetensors")
    for species in SPECIES[:2]:
        (tmp_path / "garden" / species).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "garden" / species / f"{number}.jpg").write_bytes(jpeg(species, number, 5))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ranked(*names, data="garden", options=()):
    result = run("backbones", data, "--json", *options, *(part for name in names for part in ("--backbone", name)))
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_cached_networks_are_found():
    here = {backbone.name: backbone for backbone in available.backbones(published=False)}
    assert {RESNET, VIT, "tf_efficientnet_lite0"} <= here.keys()
    assert here[RESNET].source == "cache" and here["tf_efficientnet_lite0"].source == "installed"
    assert 1_000_000 < here[RESNET].file_bytes < 4_000_000
    assert len(here) < 10


def test_ranked_by_accuracy_with_size_and_time():
    lines = ranked(RESNET, VIT)
    assert {line["name"] for line in lines} == {RESNET, VIT}
    assert lines[0]["accuracy"] >= lines[1]["accuracy"]
    for line in lines:
        assert line["interval"]["low"] <= line["accuracy"] <= line["interval"]["high"]
        assert line["valid_examples"] == 4 and line["milliseconds"] > 0
        assert 4 * line["parameters"] <= line["bytes"] < line["parameters"] * 4.2
    assert lines[0]["behind_best"] is None
    assert lines[1]["behind_best"]["difference"] == pytest.approx(lines[0]["accuracy"] - lines[1]["accuracy"])


def test_second_run_measures_nothing(monkeypatch):
    before = ranked(RESNET)
    monkeypatch.setattr(backbones, "_hits", None)
    assert ranked(RESNET) == before
    (path,) = Path(".flowerml/ranking/data/garden/backbones").glob("*.json")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(TypeError):
        CliRunner().invoke(app, ["backbones", "garden", "--backbone", RESNET, "--debug"], catch_exceptions=False)


def test_probe_is_the_training_of_a_head():
    (line,) = ranked(RESNET)
    result = run("train", "garden", "--backbone", RESNET, "--trials", 1, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert f"valid: accuracy {line['accuracy']:.4f}" in result.stdout


def test_training_reuses_the_encodings(monkeypatch):
    ranked(RESNET)
    encoded = []
    original = backbones.encode.encode

    def counted(*arguments, **options):
        encoded.append(original(*arguments, **options))
        return encoded[-1]

    monkeypatch.setattr(backbones.encode, "encode", counted)
    assert run("train", "garden", "--backbone", RESNET, "--trials", 1).exit_code == 0
    assert [(report.encoded, report.unchanged) for report in encoded] == [(0, 16)]


def test_one_that_cannot_be_ranked_is_a_line():
    result = run("backbones", "garden", "--backbone", RESNET, "--backbone", "resnett50", "--json")
    assert result.exit_code == 1
    assert "warning: resnett50 was skipped: encode.backbone: no network 'resnett50'" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: 1 of 2 backbones could not be ranked"
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == [RESNET]


def test_table_fits_80_columns():
    result = run("backbones", "garden", "--backbone", RESNET, "--backbone", VIT)
    *table, command = result.stdout.splitlines()
    assert max(map(len, table)) <= 80
    assert command.startswith("  flowerml train garden --backbone timm/test_")
    assert any(line.startswith(("Chance on 4 validation", "timm/")) for line in table)


def test_published_networks_are_listed_with_their_size():
    options = ("--all", "--match", "*et50", "--match", "resnet50")
    result = run("backbones", "garden", "--backbone", RESNET, "--json", *options)
    lines = [json.loads(line) for line in result.stdout.splitlines()][1:]
    sizes = {line["weights"]: line["file_bytes"] for line in lines if line["name"] == "resnet50"}
    assert sizes["imagenet"] == pytest.approx(102_530_333, rel=1e-4)
    assert {line["source"] for line in lines} == {"published"}
    none = run("backbones", "garden", "--backbone", RESNET, "--all", "--match", "nothing*")
    assert "no network to download has a name like nothing*" in none.stdout


def test_texts_are_refused(folder):
    (folder / "films.csv").write_text(
        "text,label\n" + "\n".join(f"film {number},{'ab'[number % 2]}" for number in range(30))
    )
    result = run("backbones", "films.csv")
    assert result.exit_code == 1 and "is of kind text" in result.stderr


def test_places_of_names_differ():
    places = {backbones.place_of(Path(), name, "imagenet") for name in ("timm/a.b", "timm/a_b", "x" * 300)}
    assert len(places) == 3 and all(len(place.name) < 100 for place in places)
    assert Backbone("a", "b", "cache").is_here
