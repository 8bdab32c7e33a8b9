"""Vision transformers of timm as encoders (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from torch import Tensor, nn

FAMILIES = ("vision_transformer", "vision_transformer_hybrid", "deit", "eva")  # timm's modules
DEPTH = 4  # maps that DPT takes, from blocks evenly apart (Ranftl et al. 2021, §3)


class ViTEncoder(TimmViTEncoder):  # type: ignore[misc,unused-ignore]
    """smp's encoder around a transformer of timm, without a classifier, for pictures of any multiple of its patches.

    Position embeddings are resampled to each picture's grid. ``forward`` is what smp.DPT asks for: the maps of four
    blocks, all of one size, and their prefix tokens (class token and registers) or None.

    Args:
        name: of a model of one of ``FAMILIES``.
    """

    model: nn.Module

    def __init__(self, name: str, *, in_channels: int = 3) -> None:
        super().__init__(
            name, pretrained=False, in_channels=in_channels, depth=DEPTH, num_classes=0, dynamic_img_size=True
        )

    def pooled(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, F): what the model's own classifier would see, for a ViT-B/16 the normed class token."""
        features: Tensor = self.model(images)
        return features

    def stages(self) -> list[list[nn.Module]]:
        """The embedding of patches and positions, then the blocks one by one, the last with the final norm."""
        children = list(self.model.named_children())
        split = [name for name, _ in children].index("blocks")
        before, after = [[module for _, module in part] for part in (children[:split], children[split + 1 :])]
        # a list of parameters is a module too: the class token and the positions belong to no other
        tokens = nn.ParameterList(self.model.parameters(recurse=False))
        *blocks, last = children[split][1].children()
        return [[tokens, *before], *([block] for block in blocks), [last, *after]]


def fix_size(model: nn.Module, side: int) -> None:
    """Resample the position embeddings of the transformers in a network to pictures of one size, once for all."""
    for module in model.modules():
        if isinstance(module, ViTEncoder):
            module.model.set_input_size(img_size=(side, side))  # type: ignore[operator]


def holds_vit(model: nn.Module) -> bool:
    """Whether a network sees best at the size that it was trained at."""
    return any(isinstance(module, ViTEncoder) for module in model.modules())
