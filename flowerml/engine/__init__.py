"""The training loop, ONNX graphs and parallel maps."""

import os

# ONNX Runtime's builds for Linux report its use to Microsoft since 1.29, and write an id for that to ~/.cache, as soon
# as it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
