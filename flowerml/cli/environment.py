"""The environment variables that every command and stage sets, unless the user has set them."""

import os

# No telemetry, and MLflow logs errors only.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


def prepare() -> None:
    """Set them, for this process and those that it starts."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
