"""ONNX Runtime with CUDA, where it is installed; there is none here, so that the choice is what can be tested."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from flowerml.engine import onnx


@pytest.fixture
def graph(tmp_path):
    """Return the path of a small graph."""
    torch.manual_seed(0)
    inputs = [{"x": np.ones((rows, 4), np.float32)} for rows in (1, 3)]
    onnx.export(nn.Linear(4, 2), tmp_path / "a.onnx", trace=inputs[0], check=inputs[1], output="logits")
    return tmp_path / "a.onnx"


def test_cpu_unless_asked(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx.CUDA, onnx.CPU])
    assert onnx.providers(accelerated=False) == [onnx.CPU]


def test_cuda_computes_in_float32(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx.CUDA, onnx.CPU])
    (name, options), fallback = onnx.providers(accelerated=True)
    assert (name, options["use_tf32"], fallback) == (onnx.CUDA, "0", onnx.CPU)


def test_cpu_where_there_is_no_cuda(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx.CPU])
    assert onnx.providers(accelerated=True) == [onnx.CPU]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_missing_driver_leaves_the_cpu(graph, monkeypatch):
    inputs = {"x": np.ones((2, 4), np.float32)}
    expected = onnx.Graph(graph).run(inputs)[0]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx.CUDA, onnx.CPU])
    accelerated = onnx.Graph(graph, accelerated=True)
    assert not accelerated.on_gpu
    assert np.array_equal(accelerated.run(inputs)[0], expected)
