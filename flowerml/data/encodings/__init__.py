"""The cached encodings: Arrow, written as a stream and read through a memory map.

It is one file or, where the examples are a folder of parts, a folder with a part for each of these.
"""

from flowerml.data.encodings.cache import EncodingCache, fingerprints_of
from flowerml.data.encodings.encoded import Encoded
from flowerml.data.encodings.layout import Columns, Row
from flowerml.data.encodings.rows import IN_MEMORY, RowValues, Values, Vectors
from flowerml.data.encodings.unfinished import Unfinished
from flowerml.data.encodings.writer import write, write_resumably

__all__ = [
    "IN_MEMORY",
    "Columns",
    "Encoded",
    "EncodingCache",
    "Row",
    "RowValues",
    "Unfinished",
    "Values",
    "Vectors",
    "fingerprints_of",
    "write",
    "write_resumably",
]
