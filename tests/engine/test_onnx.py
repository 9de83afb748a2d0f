import os
import subprocess
import sys

import pytest

from tests.support.project import REPOSITORY

# The last three are what ONNX Runtime takes for a machine that runs tests.
UNSET = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI", "GITHUB_ACTIONS", "ORT_RUNNING_UNIT_TESTS"}


@pytest.mark.parametrize("module", ["flowerml.engine.onnx", "flowerml.classifier.classifier"])
def test_onnx_runtime_reports_to_nobody(module, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in UNSET}
    subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        cwd=REPOSITORY,
        env={**environment, "HOME": str(tmp_path)},
        check=True,
    )
    assert not list(tmp_path.glob(".cache/Microsoft/**/*"))
