"""The settings of `flowerml serve`: what is served, to whom, and within which bounds."""

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flowerml.core.display import printable
from flowerml.core.errors import FlowermlError
from flowerml.core.regular import read_regular
from flowerml.engine.parallel import thread_count
from flowerml.monitoring.lines import MAX_LINE
from flowerml.serving.token import TOKEN_VARIABLE
from flowerml.web.hosts import Hosts

PORT = 5001
MAX_TOKEN_FILE = 4096
MIN_WINDOW = 50
NAME = re.compile(r"[\w.-]{1,100}")
NAMED = re.compile(r"(?P<name>[\w.-]{1,100})=(?P<address>.+)", re.DOTALL)
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,1024}=*")  # RFC 6750, section 2.1
ANY_ORIGIN = "*"
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `flowerml serve` was asked for. Travels to its workers, so it is plain data.

    Raises FlowermlError where a value is invalid, and where another host than loopback has neither a token nor
    `no_token`.
    """

    models: Mapping[str, str]
    """The address of each model (a folder, models:/…, runs:/…) by the name that it has in paths."""
    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = field(default=None, repr=False)
    no_token: bool = False
    """Whether others may ask without a token."""
    origins: tuple[str, ...] = ()
    """Web sites whose scripts may ask: https://shop.example, or *."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which others reach this server, with or without a port."""

    workers: int = 1
    threads: int = field(default_factory=thread_count)
    """Of each worker: inputs that are computed at the same time."""
    queue: int = 256
    """Requests of a worker that may wait; further ones get 429. A list of inputs is one request."""
    explain_queue: int = 4
    seconds: float = 60.0
    """Until a request must be answered, its wait included; then its work ends."""
    grace: float = 30.0
    """Seconds that accepted requests have to finish after SIGTERM."""

    max_bytes: int = 64 * MIB
    """Of a body; a photograph of 32 MiB in base64 takes 43."""
    receiving_bytes: int = 512 * MIB
    """Of all bodies of a worker that are being received."""
    max_items: int = 1000
    """Inputs of a request that is not a stream."""
    body_seconds: float = 60.0
    header_seconds: float = 10.0
    idle_seconds: float = 60.0
    """A connection is kept open so long for its next request."""
    send_seconds: float = 30.0
    """A client that reads nothing of its answer for so long is disconnected."""
    max_connections: int = 1000
    """Of a worker. Where all are taken, the one that is idle longest is closed."""

    poll: float = 15.0
    """Seconds from one look at the registry to the next."""
    wait: bool = False
    """Whether to start without models that cannot be loaded yet, and to go on trying."""

    access_log: bool = True
    """Whether each request gets a line of JSON on stdout."""
    log: Path | None = None
    """The prediction log; off where None."""
    log_bytes: int = 64 * MIB
    """Of one file of the log, before it is rotated."""
    log_files: int = 5
    keep_inputs: float = 0.0
    """The share of inputs that are kept beside the log."""
    keep_bytes: int = 1024 * MIB
    """Of all inputs that are kept."""
    drift_window: int = 500
    """The last records of a model that are compared with its reference; 0 turns the comparison off."""
    drift_seconds: float = 30.0
    """From one comparison to the next."""

    def __post_init__(self) -> None:
        if not self.models:
            raise FlowermlError("nothing to serve; name a classifier: a folder, or models:/NAME@ALIAS")
        for name in self.models:
            if not NAME.fullmatch(name):
                raise FlowermlError(
                    f"expected a model's name of letters, digits, '.', '-' and '_', found {printable(name, 80)!r}; "
                    "give it another with NAME=MODEL"
                )
        if not 0 <= self.port <= 65535:
            raise FlowermlError(f"expected a port from 1 to 65535, found {self.port}")
        Hosts(self.port, self.allowed_hosts)
        for origin in self.origins:
            _check_origin(origin)
        if self.token is not None and not TOKEN.fullmatch(self.token):
            raise FlowermlError(
                f"expected a token of 16 to 1,024 letters, digits or -._~+/ in --token-file or ${TOKEN_VARIABLE}, "
                f"found another of {len(self.token):,} characters; make one with: openssl rand -hex 32"
            )
        if self.token is None and not self.no_token and not is_loopback(self.host):
            raise FlowermlError(
                f"anyone who reaches {printable(self.host, 80)} could ask; expected a token in --token-file or "
                f"${TOKEN_VARIABLE} (make one with: openssl rand -hex 32), or --no-token"
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in (
            "workers", "threads", "queue", "explain_queue", "seconds", "body_seconds", "header_seconds", "idle_seconds",
            "send_seconds", "max_bytes", "receiving_bytes", "max_items", "max_connections", "poll", "log_bytes",
            "log_files", "keep_bytes", "drift_seconds",
        ):  # fmt: skip
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise FlowermlError(f"{name}: expected a number above 0, found {value}")
        if self.log_bytes < MAX_LINE:
            raise FlowermlError(f"log_bytes: expected at least {MAX_LINE:,}, found {self.log_bytes:,}")
        if not 0 <= self.grace < math.inf:
            raise FlowermlError(f"grace: expected seconds from 0, found {self.grace}")
        if not 0 <= self.keep_inputs <= 1:
            raise FlowermlError(f"--keep-inputs: expected a share from 0 to 1, found {self.keep_inputs}")
        if self.keep_inputs and self.log is None:
            raise FlowermlError("--keep-inputs: inputs are kept beside the prediction log; name one with --log")
        if self.drift_window != 0 and self.drift_window < MIN_WINDOW:
            raise FlowermlError(
                f"--drift-window: expected at least {MIN_WINDOW} records, or 0 for none, found {self.drift_window}"
            )


def named_models(models: Iterable[str]) -> dict[str, str]:
    """Return the address of each model by its name, of [NAME=]MODEL; without a name it is the last part that names.

    Raises FlowermlError where two have one name.

    >>> named_models(["models:/flowers@champion", "reviews=models/reviews/classifier"])
    {'flowers': 'models:/flowers@champion', 'reviews': 'models/reviews/classifier'}
    """
    addresses: dict[str, str] = {}
    for model in models:
        match = NAMED.fullmatch(model)
        name, address = (match["name"], match["address"]) if match else (_name_of(model), model)
        if name in addresses:
            raise FlowermlError(
                f"two models are called {printable(name, 80)!r}: {addresses[name]} and {address}; name them with "
                "NAME=MODEL"
            )
        addresses[name] = address
    return addresses


def read_token(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """Return the token in a file, else that of $FLOWERML_TOKEN, else None. Raises FlowermlError."""
    if file is None:
        return environment.get(TOKEN_VARIABLE, "").strip() or None
    try:
        return read_regular(file, limit=MAX_TOKEN_FILE).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds no token"
        raise FlowermlError(f"--token-file {file}: cannot be read ({reason})") from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server at `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("0.0.0.0"), is_loopback("my-laptop")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _name_of(address: str) -> str:
    scheme, _, rest = address.rpartition(":/")
    if scheme == "models":
        return rest.strip("/").partition("/")[0].partition("@")[0]
    parts = [part for part in Path(rest or address).expanduser().absolute().parts if part != "classifier"]
    return parts[-1]


def _check_origin(origin: str) -> None:
    if origin == ANY_ORIGIN:
        return
    try:
        parts = urlsplit(origin)
        rest = (parts.path, parts.query, parts.fragment, parts.username, parts.password)
        is_origin = parts.scheme in ("http", "https") and bool(parts.hostname) and not any(rest) and parts.port != 0
    except ValueError:
        is_origin = False
    if not is_origin or not origin.isascii() or not origin.isprintable():
        raise FlowermlError(
            f"--allow-origin: expected a web site such as https://shop.example, found {printable(origin, 80)!r}"
        )
