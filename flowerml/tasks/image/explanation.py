"""Which parts of a picture spoke for a class: cover them one after the other, and see what it costs the class.

Zeiler & Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 4.2. It asks nothing of a
network but answers, so it works on every graph, without gradients.
"""

import base64
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowerml.tasks.image.encoder import Encoder
from flowerml.tasks.image.encoder.pictures import Pixels

CELLS = 8  # a side; a cover takes two by two, and there are (CELLS - 1)^2 of them
# From nothing to most in equal steps: the heat's red, green and blue, and how much of it there is over the picture.
HEAT = np.array(
    [(80, 0, 120, 0.0), (155, 20, 100, 0.35), (230, 60, 60, 0.55), (245, 150, 70, 0.7), (255, 235, 90, 0.8)]
)

Array = NDArray[np.float64]
LogOdds = Callable[[Iterable[Pixels]], Array]


@dataclass(frozen=True)
class Explanation:
    """What spoke for a class, place by place.

    `picture` is what the network saw, `evidence` [CELLS, CELLS] how much the log odds of the class fall when a place
    is covered: above 0 it spoke for the class, below against it.
    """

    kind: ClassVar[str] = "image"
    label: str
    picture: Image.Image
    evidence: Array

    def heat(self) -> Array:
        """What spoke for the class, [H, W] of the picture, from 0 to 1."""
        positive = self.evidence.clip(min=0) / max(self.evidence.max(), 1e-9)
        fine = Image.fromarray(positive.astype(np.float32)).resize(self.picture.size, Image.Resampling.BICUBIC)
        return np.asarray(fine, np.float64).clip(0, 1)

    def heat_map(self) -> Image.Image:
        """The picture in grey with the heat over it, in colour."""
        heat = self.heat()
        steps = np.linspace(0, 1, len(HEAT))
        coloured = np.stack([np.interp(heat, steps, channel) for channel in HEAT.T], axis=2)
        colour, share = coloured[:, :, :3], coloured[:, :, 3:]
        grey = np.asarray(self.picture.convert("L").convert("RGB"), np.float64)
        return Image.fromarray((grey * (1 - share) + colour * share).round().astype(np.uint8))

    def to_json(self) -> dict[str, Any]:
        """{"kind": "image", "label", "heat_map": a PNG in base64}"""
        buffer = io.BytesIO()
        self.heat_map().save(buffer, "PNG")
        return {"kind": self.kind, "label": self.label, "heat_map": base64.b64encode(buffer.getvalue()).decode()}


def explain(raw: Any, encoder: Encoder, log_odds: LogOdds, *, label: str) -> Explanation:
    """What in a picture spoke for the class whose log odds `log_odds` gives; raises InputError.

    The network is asked (CELLS - 1)^2 + 1 times.
    """
    pixels = encoder.prepare(raw)
    values = log_odds(_covered(pixels))
    falls = (values[0] - values[1:]).reshape(CELLS - 1, CELLS - 1)
    return Explanation(label, encoder.show(pixels), _spread(falls))


def _covered(pixels: Pixels) -> Iterator[Pixels]:
    """The picture as it is, then with each two by two cells in its mean colour."""
    yield pixels
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    rows, columns = (np.linspace(0, side, CELLS + 1).round().astype(int) for side in pixels.shape[1:])
    for row in range(CELLS - 1):
        for column in range(CELLS - 1):
            covered = pixels.copy()
            covered[:, rows[row] : rows[row + 2], columns[column] : columns[column + 2]] = mean
            yield covered


def _spread(falls: Array) -> Array:
    """[N, N] of the covers -> [N + 1, N + 1] of the cells: the mean of the covers that a cell was under."""
    sums, counts = (np.zeros((len(falls) + 1, len(falls) + 1)) for _ in range(2))
    for row in range(2):
        for column in range(2):
            under = slice(row, row + len(falls)), slice(column, column + len(falls))
            sums[under] += falls
            counts[under] += 1
    return sums / counts
