"""Serving the page of a review until Ctrl-C."""

import logging
import secrets
import threading
from collections.abc import Iterable

import uvicorn

from flowerml.core.errors import FlowermlError
from flowerml.review import app
from flowerml.review.session import Session
from flowerml.web.hosts import Hosts, host_of
from flowerml.web.listening import listen, url_of

MAX_CONNECTIONS = 64
STOP_SECONDS = 5  # for a decision that is being saved
START_SECONDS = 30.0


class Server:
    """A page in a thread of its own. `link` leads to it, with the token that its requests need.

    Raises FlowermlError where it cannot be served.
    """

    def __init__(self, session: Session, *, host: str, port: int, allowed_hosts: Iterable[str] = ()) -> None:
        host = host.strip("[]")
        self._socket = listen(host, port, what="the page", may_choose=True)
        port = self._socket.getsockname()[1]
        bound = host_of(host)
        hosts = Hosts(port, [*allowed_hosts, *([f"{bound}:{port}"] if bound else [])])
        token = secrets.token_urlsafe(24)
        self.link = f"{url_of(host, port)}#{token}"
        config = uvicorn.Config(
            app.build(session, token=token, hosts=hosts),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        for _ in range(int(START_SECONDS / 0.01)):
            if self._uvicorn.started or not self._thread.is_alive():
                break
            threading.Event().wait(0.01)
        if not self._uvicorn.started:
            self.close()
            raise FlowermlError("the page's server did not start; try another --port")
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving; what is being saved is saved."""
        self._uvicorn.should_exit = True
        self._thread.join(timeout=STOP_SECONDS + 5)
        self._socket.close()
