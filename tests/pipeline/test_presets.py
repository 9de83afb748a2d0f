import pytest
import yaml

from flowerml.config.defaults import SHIPPED_PARAMS, defaults
from flowerml.config.dotted import flatten, set_by_dotted_name
from flowerml.data import examples
from flowerml.data.examples import Example
from flowerml.pipeline import presets
from flowerml.pipeline.presets import Preset
from flowerml.tasks.image import timing
from flowerml.tasks.pipelines import checked_pipeline
from flowerml.tasks.records import Choice
from tests.tasks.image.test_presets import FEW


@pytest.fixture
def extracted(tmp_path, monkeypatch):
    """Return a pipeline of pictures whose table of examples is tiny."""
    monkeypatch.chdir(tmp_path)
    pipeline = checked_pipeline("birds", "image", defaults("image").sections, path=SHIPPED_PARAMS, root=tmp_path)
    rows = [Example(f"{split}{number}", split, "ab"[number % 2], b"x") for split in FEW for number in range(4)]
    pipeline.paths.examples.parent.mkdir(parents=True)
    examples.write(pipeline.paths.examples, rows, raw=bytes)
    return pipeline


def test_preset_changes_encode_and_train_only(extracted):
    pipeline, choices = presets.apply(extracted, Preset("balanced", {}))
    assert (pipeline.encode.trainable_blocks, pipeline.train.head_start) == (4, "probe")
    assert (pipeline.data, pipeline.evaluate, pipeline.export) == (
        extracted.data,
        extracted.evaluate,
        extracted.export,
    )
    assert all(choice.reason for choice in choices)


def test_the_users_word_wins(extracted):
    given = {"train.epochs": 2, "train.augment.smallest_crop": 0.7, "train.search.trials": 3}
    pipeline, choices = presets.apply(extracted, Preset("balanced", given))
    assert (pipeline.train.epochs, pipeline.train.augment.smallest_crop, pipeline.train.search.trials) == (2, 0.7, 3)
    assert "augment.smallest_crop" not in pipeline.train.search.space
    shown = {choice.name: choice for choice in choices}
    assert (shown["train.epochs"].value, shown["train.epochs"].reason) == (2, "given")


def test_the_same_again_after_an_interruption(extracted, monkeypatch):
    preset = Preset("best", {}, minutes=1.0)
    first, _ = presets.apply(extracted, preset)
    timing._answers_a_second.cache_clear()
    monkeypatch.setattr(timing, "OVERHEAD", 1e9)  # a machine that is busy now
    again, _ = presets.apply(extracted, preset)
    other, _ = presets.apply(extracted, Preset("best", {}, minutes=2.0))
    assert again == first != other


@pytest.mark.parametrize("name", presets.NAMES)
def test_what_is_printed_can_be_written_into_params_yaml(extracted, name):
    preset = Preset(name, {})
    pipeline, choices = presets.apply(extracted, preset)
    written = yaml.safe_load("\n".join(presets.described(preset, choices).splitlines()[1:]))
    sections = extracted.sections()
    set_by_dotted_name(sections, {choice.name: choice.value for choice in choices})
    for section, values in flatten(written).items():
        if not section.startswith("train.search.space"):
            assert flatten(sections)[section] == values
    assert written["train"]["search"]["space"] == sections["train"]["search"]["space"]
    assert pipeline.train.model_dump()["augment"] == sections["train"]["augment"]


def test_it_is_printed_as_yaml_with_reasons():
    choices = [
        Choice("encode.backbone", ["a", "b"], "two"),
        Choice("train.size", None, "its own"),
        Choice("train.augment.flip", True, "usual"),
        Choice("train.search.trials", 2, "one each"),
    ]
    assert presets.described(Preset("best", {}, 30), choices).splitlines() == [
        "preset best in 30 minutes, as parameters:",
        "  encode:",
        "    backbone: [a, b]   # two",
        "  train:",
        "    size: null   # its own",
        "    augment:",
        "      flip: true   # usual",
        "    search:",
        "      trials: 2   # one each",
    ]
