"""The version of flowerml that a project is pinned to."""

import re
from pathlib import Path

import pytest

from flowerml.config import pin
from flowerml.core.errors import ParamsError

HERE = Path("params.yaml")
PIPELINES = {"pipelines": {"birds": "image"}}


def test_a_file_without_a_pin_is_run_by_any_version():
    pin.check(PIPELINES, HERE)


def test_the_pinned_version_runs():
    pin.check({"flowerml": pin.installed(), **PIPELINES}, HERE)


def test_another_version_is_refused_with_the_commands():
    with pytest.raises(ParamsError) as raised:
        pin.check({"flowerml": "9.9.9", **PIPELINES}, HERE)
    assert str(raised.value) == (
        f"params.yaml: expected flowerml 9.9.9, which this project is pinned to, found {pin.installed()}; run `pip "
        "install 'flowerml[train]==9.9.9'`, or move the project to the version found with `flowerml init --upgrade`"
    )


@pytest.mark.parametrize("version", [0.1, None, "", ["0.1.0"]])
def test_a_pin_is_a_text(version):
    with pytest.raises(ParamsError, match=re.escape(f"expected a version in quotes, such as '{pin.installed()}'")):
        pin.check({"flowerml": version, **PIPELINES}, HERE)


def test_a_pipeline_named_flowerml_is_no_pin():
    assert pin.pinned({"pipelines": {"flowerml": "image"}, "flowerml": {"train": {}}}, HERE) is None
