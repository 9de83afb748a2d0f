"""Presets are plain parameters that the schema accepts, and fit into the time that there is."""

import copy
from io import BytesIO

import pytest
from PIL import Image

from flowerml.config.defaults import SHIPPED_PARAMS, defaults
from flowerml.config.dotted import flatten, set_by_dotted_name
from flowerml.core.errors import ParamsError
from flowerml.search.study import Search
from flowerml.tasks.image.presets import BACKBONE, Plan, preset
from flowerml.tasks.image.timing import Machine
from flowerml.tasks.pipelines import checked_pipeline
from flowerml.tasks.records import Situation

FEW = {"train": 1020, "valid": 1020, "test": 6149}
MANY = {"train": 6552, "valid": 818, "test": 819}


def chosen(name, counts=FEW, minutes=None, **given):
    """Return the values of a preset by their dotted names, those of the user on top."""
    values = {choice.name: choice.value for choice in preset(name, Situation(counts, given, minutes))}
    return {**values, **given}


def section(values):
    """Return the section `train` with these values, after the shipped ones."""
    sections = copy.deepcopy(defaults("image").sections)
    set_by_dotted_name(sections, values)
    return checked_pipeline("pictures", "image", sections, path=SHIPPED_PARAMS).train


@pytest.mark.parametrize("name", ["fast", "balanced", "best"])
@pytest.mark.parametrize("counts", [FEW, MANY])
def test_every_preset_is_valid_and_gives_reasons(name, counts):
    choices = preset(name, Situation(counts, {}))
    assert all(choice.reason for choice in choices)
    assert len({choice.name for choice in choices}) == len(choices)
    section(chosen(name, counts))


def test_presets_name_all_parameters_that_matter():
    shipped = flatten({name: defaults("image").sections[name] for name in ("encode", "train")})
    left = {
        "train.seed",
        "train.acceptance",
        "train.class_weights",
        "train.repeats",
        "train.examples",
        "encode.batch_size",
        "encode.seed",
    }
    left |= {"train.ensemble_by"}  # of an ensemble
    # What is left of encode.augment is of stored views, of which there is one.
    names = {name for name in shipped if not name.startswith(("train.search.", "encode.augment."))} - left
    for name in ("balanced", "best"):
        assert names - set(chosen(name)) == set()


def test_fast_is_frozen():
    assert chosen("fast")["encode.trainable_blocks"] == 0


def test_balanced_is_one_network():
    values = chosen("balanced")
    assert (values["encode.trainable_blocks"], values["encode.backbone"]) == (4, BACKBONE)
    assert Search(section(values)).count == 1


def test_best_tries_each_network_once():
    train = section(chosen("best"))
    backbones = []
    for trial in Search(train):
        backbones.append(trial.section.backbone)
        trial.fail("not trained here")
    assert backbones == train.search.space["backbone"] and len(backbones) == train.ensemble == 2


def test_best_of_one_backbone_has_several_seeds():
    train = section(chosen("best", **{"encode.backbone": "resnet18", "train.seed": 5}))
    seeds = []
    for trial in Search(train):
        seeds.append(trial.section.seed)
        trial.fail("not trained here")
    assert seeds == [5, 6]


def test_blocks_are_a_share_of_those_of_the_network():
    assert chosen("balanced", **{"encode.backbone": "resnet18"})["encode.trainable_blocks"] == 2


def test_a_refit_is_for_large_validation_splits():
    assert chosen("best", FEW)["train.refit"] and not chosen("best", MANY)["train.refit"]


def test_more_time_is_more_epochs_then_more_networks():
    machine, given = Machine(cores=2, share=1.0), {"train.precision": "bfloat16"}
    plans = [Plan.of("balanced", Situation(MANY, given, minutes), machine) for minutes in (6, 9, 1000)]
    assert 3 <= plans[0].epochs < plans[1].epochs < plans[2].epochs == 10
    assert [Plan.of("best", Situation(MANY, given, minutes), machine).networks for minutes in (6, 2000)] == [1, 3]


def test_a_plan_needs_no_more_than_the_time():
    machine = Machine(cores=2, share=1.0)
    for counts in (FEW, MANY):
        for name, minutes in (("balanced", 7), ("balanced", 12), ("best", 20), ("best", 60)):
            plan = Plan.of(name, Situation(counts, {}, minutes), machine)
            assert plan.epochs >= 3 and machine.seconds(plan.work, plan.epochs, counts) <= 60 * minutes


@pytest.mark.parametrize(("side", "size", "blocks"), [(32, 128, "all"), (140, 144, "all"), (256, None, 4)])
def test_small_pictures_are_not_enlarged_to_the_networks_size(side, size, blocks):
    buffer = BytesIO()
    Image.new("RGB", (2 * side, side)).save(buffer, "PNG")
    choices = preset("balanced", Situation(FEW, {}, None, [buffer.getvalue(), b"no picture"]))
    values = {choice.name: choice.value for choice in choices}
    assert (values["encode.size"], values["encode.trainable_blocks"]) == (size, blocks)


@pytest.mark.parametrize(
    ("name", "given", "size"),
    [
        ("balanced", {}, 192),
        ("best", {}, 208),
        ("balanced", {"encode.size": 320}, 272),
        ("balanced", {"encode.backbone": "resnet18"}, None),
        ("balanced", {"train.size": 160}, 160),
    ],
)
def test_many_pictures_are_trained_smaller_than_answered(name, given, size):
    assert chosen(name, MANY, **given)["train.size"] == size
    assert chosen(name, FEW, **given)["train.size"] == given.get("train.size")


def test_too_little_time_is_frozen_and_says_so():
    choices = {choice.name: choice for choice in preset("balanced", Situation(MANY, {}, 0.5))}
    assert choices["encode.trainable_blocks"].value == 0
    assert "0.5 minutes are not enough to fine-tune on 6,552 pictures" in choices["encode.trainable_blocks"].reason


@pytest.mark.parametrize(
    ("name", "minutes", "given", "message"),
    [
        ("fast", 5.0, {}, "--minutes: expected balanced or best"),
        ("best", None, {"encode.trainable_blocks": 0}, "--preset: expected trained blocks in preset best"),
    ],
)
def test_what_does_not_fit_together_is_one_line(name, minutes, given, message):
    with pytest.raises(ParamsError, match=message) as raised:
        preset(name, Situation(FEW, given, minutes))
    assert "\n" not in str(raised.value)
