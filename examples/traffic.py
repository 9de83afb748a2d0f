"""Send newly drawn flowers to a server, as they are or darkened: traffic to try `flowerml serve` and its alarm with.

    python examples/traffic.py http://127.0.0.1:5001 --count 300
    python examples/traffic.py http://127.0.0.1:5001 --count 300 --brightness 0.35

Prints how many answers each version of the model gave, and how many of its inputs it knew. A server that asks for a
token is sent that of FLOWERML_TOKEN.
"""

import argparse
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator

import requests
from PIL import Image, ImageEnhance

from flowerml.tasks.image.sample import SPECIES, jpeg

SECONDS = 30.0


def pictures(count: int, *, seed: int, brightness: float) -> Iterator[bytes]:
    """Yield JPEGs of drawn flowers, species by species, their light multiplied by `brightness`."""
    for number in range(count):
        raw = jpeg(SPECIES[number % len(SPECIES)], number, seed)
        if brightness != 1:
            buffer = io.BytesIO()
            ImageEnhance.Brightness(Image.open(io.BytesIO(raw))).enhance(brightness).save(buffer, "JPEG", quality=88)
            raw = buffer.getvalue()
        yield raw


def main() -> None:
    """Send the pictures one after the other, and print who answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the server's address, such as http://127.0.0.1:5001")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--brightness", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1, help="pictures of another seed are other pictures")
    arguments = parser.parse_args()

    session = requests.Session()
    if token := os.environ.get("FLOWERML_TOKEN"):
        session.headers["Authorization"] = f"Bearer {token}"
    answered: Counter[str] = Counter()
    known: Counter[str] = Counter()
    for raw in pictures(arguments.count, seed=arguments.seed, brightness=arguments.brightness):
        try:
            reply = session.post(
                f"{arguments.url.rstrip('/')}/predict",
                data=raw,
                headers={"Content-Type": "image/jpeg"},
                timeout=SECONDS,
            )
        except requests.RequestException as error:
            sys.exit(f"error: {arguments.url} cannot be reached ({type(error).__name__}); is `flowerml serve` running?")
        if not reply.ok:
            sys.exit(f"error: {arguments.url} answered with {reply.status_code}: {reply.text[:200]}")
        answer = reply.json()
        version = f"{answer['model']['name']} version {answer['model']['version']}"
        answered[version] += 1
        known[version] += answer["known"]
    for version, count in answered.items():
        print(f"{version}: {count} answers, {known[version]} of them known")


if __name__ == "__main__":
    main()
