"""Text as a value of params.yaml, and names that YAML, DVC and a command line take as they are."""

import json
import re
import unicodedata
from typing import Any

import yaml

from flowerml.config.entries import PIPELINES
from flowerml.config.params import Loader
from flowerml.config.pin import PIN

PLAIN = re.compile(r"[\w./~@+-]+", re.ASCII)
# `dvc exp run -S NAME.train.epochs=3`: its grammar knows no dots, spaces or umlauts in a name, and no digit in front.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# Of params.yaml, and of data/ and reports/.
RESERVED = {PIPELINES, PIN, "downloads", "exported"}


def scalar(text: str) -> str:
    """Return text as YAML, in quotes where it would be read as something else.

    >>> scalar("sample"), scalar("my data/pictures"), scalar("1e3")
    ('sample', '"my data/pictures"', '"1e3"')
    """
    return text if PLAIN.fullmatch(text) and _read(text) == text else json.dumps(text, ensure_ascii=False)


def is_name(text: str) -> bool:
    """Return whether a pipeline may have this name.

    >>> is_name("flowers_102"), is_name("102 flowers"), is_name("yes"), is_name("pipelines")
    (True, False, False, False)
    """
    return bool(NAME.fullmatch(text)) and _read(text) == text and text not in RESERVED


def name_from(text: str) -> str:
    """Return a name for a pipeline that is like the text.

    >>> name_from("Blümen & Co"), name_from("102flowers"), name_from("no"), name_from("花")
    ('Blumen_Co', 'data_102flowers', 'data_no', 'data')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-")
    return name if is_name(name) else f"data_{name}".rstrip("_")


def _read(text: str) -> Any:
    return yaml.load(text, Loader)
