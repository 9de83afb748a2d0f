"""The address of a cluster: checked at once, as Ray and Dask try for a minute and tell of it in their own words."""

import socket
from urllib.parse import urlsplit

from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError, cause_message
from flowerml.core.urls import without_secrets
from flowerml.engine.executors.place import ADDRESS

SECONDS = 5.0


def check_answers(address: str, *, schemes: tuple[str, ...], example: str) -> None:
    """Raise FlowermlError where nothing listens at HOST:PORT or SCHEME://HOST:PORT."""
    shown = one_line(without_secrets(address), 100)
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None or (parts.scheme and parts.scheme not in schemes):
        raise FlowermlError(f"{ADDRESS}: expected an address such as {example}; found {shown}")
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        raise FlowermlError(
            f"{ADDRESS}: no cluster answers at {shown} ({cause_message(error)}); check the address, and that the "
            "cluster runs"
        ) from None
