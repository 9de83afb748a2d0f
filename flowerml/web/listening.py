"""The socket a server listens on, bound before its models load, the URL that leads to it, and the wait for Ctrl-C."""

import signal
import socket
import threading

from flowerml.core.errors import FlowermlError


def listen(host: str, port: int, *, what: str, may_choose: bool = False) -> socket.socket:
    """Return a socket that listens at this address; `what` is served there, for the error where it is not free.

    Only then does the port belong to this process; who connects waits until something accepts. With `may_choose`, port
    0 stands for any free one. Raises FlowermlError.
    """
    if not (0 if may_choose else 1) <= port <= 65535:
        raise FlowermlError(f"expected a port from 1 to 65535, found {port}")
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        if listening is not None:
            listening.close()
        reason = (error.strerror or str(error)).lower()
        raise FlowermlError(
            f"{what} cannot be served at {host}, port {port} ({reason}); choose another address or port"
        ) from None
    return listening


def url_of(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server.

    >>> url_of("0.0.0.0", 7860)
    'http://localhost:7860/'
    """
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/"


def wait() -> None:
    """Wait for Ctrl-C or SIGTERM in the main thread, where alone they can be caught."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        stopped.wait()
        return
    # Also Ctrl-C, which a shell ignores for what it runs with `&`.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in numbers}
    try:
        stopped.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
