"""Vision transformers of timm as encoders (Dosovitskiy et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F

FAMILIES = ("vision_transformer", "vision_transformer_hybrid", "deit", "eva")  # timm's modules
POSITIONS = "pos_embed"
DEPTH = 4  # maps that DPT takes, from blocks evenly apart (Ranftl et al. 2021, §3)
CELLS = (8, 16, 32)  # pixels that a patch may stand for in DPT, which halves and doubles maps


class ViTEncoder(TimmViTEncoder):  # type: ignore[misc,unused-ignore]
    """smp's encoder around a transformer of timm, without a classifier, for pictures of any multiple of its patches.

    Position embeddings are resampled to each picture's grid. ``forward`` is what smp.DPT asks for: the maps of four
    blocks, all of one size, and their prefix tokens (class token and registers) or None.

    Of patches that are no power of two, as DINOv2's of 14 px, pictures of any size are resized inside to the nearest
    even number of patches: DPT halves their maps once.

    Args:
        name: of a model of one of ``FAMILIES``.

    Attributes:
        resizes: whether pictures are resized inside.
    """

    model: nn.Module

    def __init__(self, name: str, *, in_channels: int = 3) -> None:
        super().__init__(
            name, pretrained=False, in_channels=in_channels, depth=DEPTH, num_classes=0, dynamic_img_size=True
        )
        self.resizes = self.output_stride not in CELLS

    def inner_side(self, side: int) -> int:
        """The side that the transformer itself sees of pictures of a side, in pixels."""
        step = 2 * self.output_stride
        return step * max(1, round(side / step)) if self.resizes else side

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        maps: tuple[list[Tensor], list[Tensor | None]] = super().forward(self._resized(images))
        return maps

    def pooled(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, F): what the model's own classifier would see, for a ViT-B/16 the normed class token."""
        features: Tensor = self.model(self._resized(images))
        return features

    def pooled_and_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What ``pooled`` gives, and the patches after the last block and its norm, (N, F, h, w)."""
        images = self._resized(images)
        tokens: Tensor = self.model.forward_features(images)  # type: ignore[operator]  # torch: Tensor | Module
        pooled: Tensor = self.model.forward_head(tokens)  # type: ignore[operator]  # torch: Tensor | Module
        patches = tokens[:, self._num_prefix_tokens :].mT
        return pooled, patches.unflatten(2, [side // self.output_stride for side in images.shape[2:]])

    def _resized(self, images: Tensor) -> Tensor:
        height, width = (int(side) for side in images.shape[2:])
        inner = self.inner_side(height), self.inner_side(width)
        return images if inner == (height, width) else F.interpolate(images, size=inner, mode="bilinear")

    def stages(self) -> list[list[nn.Module]]:
        """The embedding of patches and positions, then the blocks one by one, the last with the final norm."""
        children = list(self.model.named_children())
        split = [name for name, _ in children].index("blocks")
        before, after = [[module for _, module in part] for part in (children[:split], children[split + 1 :])]
        # a list of parameters is a module too: the class token and the positions belong to no other
        tokens = nn.ParameterList(self.model.parameters(recurse=False))
        *blocks, last = children[split][1].children()
        return [[tokens, *before], *([block] for block in blocks), [last, *after]]


def fit_positions(state: Mapping[str, Tensor], encoder: ViTEncoder) -> tuple[dict[str, Tensor], str]:
    """Resample the position embeddings of weights for pictures of another size, as timm does when it loads them.

    Args:
        state: tensors by timm's keys, as ``pos_embed`` (1, prefix tokens + rows x columns, features).

    Returns:
        The state, and a line that says what was done; empty where nothing was.
    """
    own = encoder.model.state_dict().get(POSITIONS)
    theirs = state.get(POSITIONS)
    if own is None or theirs is None or theirs.shape == own.shape or theirs.ndim != 3:
        return dict(state), ""
    rows, columns = encoder.model.patch_embed.grid_size  # type: ignore[union-attr,misc]  # torch: Tensor | Module
    prefix = own.shape[1] - rows * columns
    side = math.isqrt(max(theirs.shape[1] - prefix, 0))
    if theirs.shape[1] != side**2 + prefix or side == 0 or theirs.shape[2] != own.shape[2]:
        return dict(state), ""
    fitted = resample_abs_pos_embed(theirs, [rows, columns], [side, side], num_prefix_tokens=prefix)
    line = f"position embeddings resampled from {side} x {side} patches to {rows} x {columns}"
    return {**state, POSITIONS: fitted}, line


def fix_size(model: nn.Module, side: int) -> None:
    """Resample the position embeddings of the transformers in a network to pictures of one size, once for all."""
    for module in model.modules():
        if isinstance(module, ViTEncoder):
            inner = module.inner_side(side)
            module.model.set_input_size(img_size=(inner, inner))  # type: ignore[operator]  # torch: Tensor | Module


def holds_vit(model: nn.Module) -> bool:
    """Tell if a network sees best at the size that it was trained at."""
    return any(isinstance(module, ViTEncoder) for module in model.modules())
