"""The detector of pictures unlike the training pictures, with the features by which drift is found."""

from torch import Tensor, nn

from flowerml.engine.components import Components
from flowerml.engine.feature_distance import FeatureDistance


class PictureDetector(nn.Module):
    """Features [B, D] of a backbone -> (strangeness [B] > 0, their principal components [B, F])."""

    def __init__(self, distance: FeatureDistance, components: Components) -> None:
        super().__init__()
        self.features = components.names
        self.distance, self.components = distance, components

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return nn.functional.softplus(self.distance(features)), self.components(features)
