"""What a server says of a request that it refuses: `flowerml serve`, or MLflow's."""

import json

from flowerml.core.display import one_line

LIMIT = 200  # characters
MAX_BYTES = 10**6  # MLflow quotes all the rows it was sent


def explanation(content: bytes) -> str | None:
    """Return the server's reason in one line; None where it gives none.

    >>> explanation(b'{"error": {"code": "busy", "message": "ask again in 2 s"}, "request_id": "1f"}')
    'ask again in 2 s'
    """
    try:
        body = json.loads(content[:MAX_BYTES])
        error = body.get("error")
        message = error["message"] if isinstance(error, dict) else body["message"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    # MLflow quotes the rows first, and the reason last.
    return one_line(str(message).rpartition("Error: ")[2], LIMIT) or None
