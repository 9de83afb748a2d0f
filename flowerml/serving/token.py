"""The token that a server of `flowerml serve` asks for, as its clients send it."""

import os
from urllib.parse import urlsplit

TOKEN_VARIABLE = "FLOWERML_TOKEN"


def authorization(url: str) -> dict[str, str]:
    """Return the header with the token of $FLOWERML_TOKEN; empty without one, and for a URL with a user of its own."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token or not token.isascii() or not token.isprintable() or "@" in urlsplit(url).netloc:
        return {}
    return {"Authorization": f"Bearer {token}"}
