"""The training loop, ONNX graphs and parallel maps."""
