"""``cnn``: a small convolutional encoder, for small pictures and quick trials."""

from __future__ import annotations

from itertools import pairwise

from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

CHANNELS = (32, 64, 128, 256, 512)


class CNN(nn.Module, EncoderMixin):  # type: ignore[misc,unused-ignore]
    """Five blocks, each a 3×3 convolution, batch norm, ReLU and a max-pool that halves the picture: 1.6 M parameters.

    The satellite seed calls its own only "a small custom CNN"; this is the plain form of such networks (as VGG,
    Simonyan & Zisserman 2015, with one convolution a block and batch norm), five blocks deep because a U-Net stands
    on five strides. The features of a block are those after its pool.

    Args:
        out_channels: of the picture and of each block.
    """

    def __init__(self, out_channels: tuple[int, ...], depth: int = 5, output_stride: int = 32) -> None:
        super().__init__()
        self._depth = depth
        self._in_channels = out_channels[0]
        self._out_channels = list(out_channels)
        self._output_stride = output_stride
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            )
            for before, after in pairwise(out_channels[: depth + 1])
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> the picture and the features at strides 2, 4, 8, 16 and 32."""
        features = [x]
        for block in self.blocks:
            features.append(block(features[-1]))
        return features
