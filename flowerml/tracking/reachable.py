"""A quick word, before hours of other work, that the tracking server cannot be reached."""

import os
import socket
from threading import Thread
from urllib.parse import urlsplit

from flowerml.core import os_errors
from flowerml.tracking import connection
from flowerml.tracking.mirror import notify

TIMEOUT = 3.0  # seconds for a connection, and for an answer
PATIENCE = 8.0  # seconds in all; without a network a name may take longer to be looked up
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def warn(work: str) -> None:
    """Say in a line if the tracking server cannot be reached, before `work` that needs none.

    A warning and no error: encodings are worth having without a network too, and are not computed again. MLflow is not
    imported for this, and nothing is asked of a SQLite database.
    """
    if problem := unreachable():
        notify(
            f"warning: MLflow at {connection.address()} is not responding ({problem}); {work} needs no server, but "
            "train will stop there: start the server, or set MLFLOW_TRACKING_URI"
        )


def unreachable() -> str | None:
    """Return why the tracking server cannot be reached; None where it can be, or needs no network."""
    uri = connection.uri()
    scheme = urlsplit(uri).scheme.partition("+")[0].lower()
    if scheme not in ("http", "https", *PORTS):
        return None
    problems: list[str | None] = []
    check = _check_http if scheme in ("http", "https") else _check_database
    thread = Thread(target=lambda: problems.append(check(uri)), daemon=True)  # nothing else bounds a look-up of names
    thread.start()
    thread.join(PATIENCE)
    return problems[0] if problems else f"no answer within {PATIENCE:g} s"


def _check_http(uri: str) -> str | None:
    import requests

    certificate = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
    try:
        status = requests.get(f"{uri.rstrip('/')}/health", timeout=TIMEOUT, verify=certificate).status_code
    except requests.exceptions.SSLError:
        return None  # somebody answers
    except requests.exceptions.Timeout:
        return f"no answer within {TIMEOUT:g} s"
    except (requests.exceptions.RequestException, ValueError) as error:
        return "no connection" if isinstance(error, requests.exceptions.ConnectionError) else os_errors.reason(error)
    return f"status {status}" if status >= 500 else None


def _check_database(uri: str) -> str | None:
    from sqlalchemy import make_url

    try:
        url = make_url(uri)
        if not url.host or url.host.startswith("/"):
            return None  # a socket of this machine
        port = url.port or PORTS[url.get_backend_name()]
        socket.create_connection((url.host, port), timeout=TIMEOUT).close()
    except (OSError, ValueError) as error:
        return os_errors.reason(error)
    return None
