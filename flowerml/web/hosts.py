"""Which names a server answers to, and whose requests the page takes.

A web site can send requests to a server on its visitor's machine, and can give its own name that machine's address (DNS
rebinding). Browsers say in `Host` by which name they came, and in `Origin` and `Sec-Fetch-Site` which page sent them.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping

from flowerml.core.display import printable
from flowerml.core.errors import FlowermlError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
NAME = re.compile(r"(?P<name>[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?|\[[0-9a-f:.]+\])(:(?P<port>\d{1,5}))?")


class Hosts:
    """The names of a server: loopback ones and those given, and the address a request arrived at.

    No site can be rebound to a bare address, so `--host 0.0.0.0` needs no list of addresses. A loopback name goes with
    the server's port; a given one with any port, unless it has one itself.
    """

    def __init__(self, port: int, allowed: Iterable[str] = ()) -> None:
        """Raises FlowermlError for what is not a host name."""
        self.port = port
        self.allowed = {*(f"{name}:{port}" for name in LOOPBACK), *map(_normalize, allowed)}
        if port == 80:
            self.allowed.update(LOOPBACK)

    def refusal(self, headers: Mapping[str, str], *, arrived_at: str, navigation: bool) -> str | None:
        """Return why a request is refused; None where it may pass.

        `arrived_at`: the address of this machine that the request was sent to. `navigation`: whether it asks for the
        page itself, to which other sites may link.
        """
        host = headers.get("host", "").lower()
        if not self.answers_to(host, arrived_at=arrived_at):
            return (
                f"this page does not answer to {printable(host, 80)!r}; open it at localhost:{self.port}, or start it "
                "with --allowed-host NAME"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            return f"requests from another site ({printable(origin, 80)}) are refused"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            is_link = navigation and headers.get("sec-fetch-mode") == "navigate"
            return None if is_link else "requests from another site are refused"
        return None

    def answers_to(self, host: str, *, arrived_at: str) -> bool:
        """Return whether this is the server's name, in lower case, as the header `Host` has it."""
        match = NAME.fullmatch(host)
        if match is None:
            return False
        own = f"[{arrived_at}]" if ":" in arrived_at else arrived_at
        port = int(match["port"] or 80)
        return bool({host, match["name"]} & self.allowed) or (match["name"] == own and port == self.port)


def host_of(address: str) -> str | None:
    """Return a bound address as a name to allow; None for one that stands for all (0.0.0.0, ::)."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return address
    return None if number.is_unspecified else f"[{number}]" if number.version == 6 else str(number)


def _normalize(name: str) -> str:
    match = NAME.fullmatch(name.lower())
    if match is None or not 0 < int(match["port"] or 80) < 65536:
        raise FlowermlError(
            f"expected a host name such as models.example.org or models.example.org:8080, found {printable(name, 80)!r}"
        )
    return name.lower()
