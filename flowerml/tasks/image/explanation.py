"""Occlusion sensitivity: cover each part of a picture in turn, and measure how much the class loses.

Zeiler & Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 4.2. Grad-CAM and captum need
torch and gradients; this needs only predictions, so it explains the ONNX graph that is served.
"""

import base64
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowerml.tasks.image.encoder import Picture, Preprocessing
from flowerml.tasks.image.encoder.pictures import Pixels

CELLS = 8  # along each side; a cover takes 2 x 2 cells, so there are (CELLS - 1)^2 covers
# Red, green, blue (0 to 255) and opacity (0 to 1) of the heat, from none to the most in equal steps.
COLOR_MAP = np.array(
    [(80, 0, 120, 0.0), (155, 20, 100, 0.35), (230, 60, 60, 0.55), (245, 150, 70, 0.7), (255, 235, 90, 0.8)]
)

Array = NDArray[np.float64]
LogOdds = Callable[[Iterable[Pixels]], Array]


@dataclass(frozen=True)
class Explanation:
    """The evidence for a class in each cell of a picture.

    `picture` is what the network saw. `evidence` [CELLS, CELLS] is how much the log odds of the class fall when a cell
    is covered: positive where the cell supports the class, negative where it contradicts it.

    >>> evidence = np.zeros((CELLS, CELLS))
    >>> evidence[0, 0] = 2.0
    >>> explanation = Explanation("rose", Image.new("RGB", (64, 48)), evidence)
    >>> explanation.heat().shape, explanation.heat_map().size
    ((48, 64), (64, 48))
    """

    kind: ClassVar[str] = "image"
    label: str
    picture: Image.Image
    evidence: Array

    def heat(self) -> Array:
        """Return the evidence for the class on each pixel, [H, W] from 0 to 1."""
        positive = self.evidence.clip(min=0) / max(self.evidence.max(), 1e-9)
        upsampled = Image.fromarray(positive.astype(np.float32)).resize(self.picture.size, Image.Resampling.BICUBIC)
        return np.asarray(upsampled, np.float64).clip(0, 1)

    def heat_map(self) -> Image.Image:
        """Return the picture in gray with the heat over it in color."""
        heat = self.heat()
        steps = np.linspace(0, 1, len(COLOR_MAP))
        overlay = np.stack([np.interp(heat, steps, channel) for channel in COLOR_MAP.T], axis=2)
        color, opacity = overlay[:, :, :3], overlay[:, :, 3:]
        gray = np.asarray(self.picture.convert("L").convert("RGB"), np.float64)
        return Image.fromarray((gray * (1 - opacity) + color * opacity).round().astype(np.uint8))

    def to_json(self) -> dict[str, Any]:
        """Return {"kind": "image", "label", "heat_map": a PNG in base64}."""
        buffer = io.BytesIO()
        self.heat_map().save(buffer, "PNG")
        return {"kind": self.kind, "label": self.label, "heat_map": base64.b64encode(buffer.getvalue()).decode()}


def explain(raw: Picture, preprocessing: Preprocessing, log_odds: LogOdds, *, label: str) -> Explanation:
    """Return the evidence in a picture for the class whose log odds `log_odds` returns; raises InputError.

    The network makes (CELLS - 1)^2 + 1 = 50 predictions.
    """
    pixels = preprocessing.transform(raw)
    values = log_odds(_occlusions(pixels))
    drops = (values[0] - values[1:]).reshape(CELLS - 1, CELLS - 1)
    return Explanation(label, preprocessing.visualize(pixels), _mean_by_cell(drops))


def _occlusions(pixels: Pixels) -> Iterator[Pixels]:
    """Yield the picture as it is, then with each 2 x 2 cells covered by its mean color."""
    yield pixels
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    rows, columns = (np.linspace(0, side, CELLS + 1).round().astype(int) for side in pixels.shape[1:])
    for row in range(CELLS - 1):
        for column in range(CELLS - 1):
            covered = pixels.copy()
            covered[:, rows[row] : rows[row + 2], columns[column] : columns[column + 2]] = mean
            yield covered


def _mean_by_cell(drops: Array) -> Array:
    """Return for each cell [N + 1, N + 1] the mean drop over the covers [N, N] that hid it."""
    sums, counts = (np.zeros((len(drops) + 1, len(drops) + 1)) for _ in range(2))
    for row in range(2):
        for column in range(2):
            hidden = slice(row, row + len(drops)), slice(column, column + len(drops))
            sums[hidden] += drops
            counts[hidden] += 1
    return sums / counts
