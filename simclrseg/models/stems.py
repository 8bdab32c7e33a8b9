"""The first layers of a ResNet for small pictures, and how their weights are stored.

Chen et al. 2020, §B.9: for CIFAR the 7×7 convolution of stride 2 becomes a 3×3 one of stride 1, and the max-pool goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import Tensor, nn

from simclrseg.errors import UsageError

SMALL = 64  # pixels below which a stride of 2 and a max-pool leave too little to see
KERNEL = "conv1.weight"


def choose_stem(asked: str, backbone: nn.Module, name: str, *, image_size: int) -> str:
    """``imagenet`` or ``cifar``; ``auto`` takes the latter for ResNets on pictures below 64 px.

    Raises:
        UsageError: if the CIFAR stem is asked for an encoder that is no ResNet.
    """
    resnet = isinstance(backbone, ResNetEncoder)
    if asked == "cifar" and not resnet:
        raise UsageError(
            f"--stem cifar is for ResNets, and {name} is none", "choose another --backbone, as resnet18", option="stem"
        )
    if asked == "auto":
        return "cifar" if resnet and image_size < SMALL else "imagenet"
    return asked


def set_cifar_stem(backbone: nn.Module) -> None:
    """Give a ResNet a 3×3 convolution of stride 1, with new weights, and no max-pool."""
    old = backbone.conv1
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's ResNet
    backbone.conv1 = new
    backbone.maxpool = nn.Identity()


def stored(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with a 3×3 kernel centred in a 7×7 one: the same convolution, in a shape that loads everywhere."""
    return {**state, KERNEL: F.pad(state[KERNEL], (2, 2, 2, 2))}


def restored(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo ``stored``; a state that was not stored so stays."""
    if has_size(state[KERNEL].shape, 3):
        return dict(state)
    return {**state, KERNEL: state[KERNEL][:, :, 2:5, 2:5].contiguous()}


def fit_stem(kernel: Tensor, shape: Sequence[int]) -> Tensor | None:
    """A 3×3 first convolution centred in a 7×7 one; None where it is of another size."""
    if not has_size(kernel.shape, 3) or not has_size(shape, 7) or kernel.shape[0] != shape[0]:
        return None
    return F.pad(kernel, (2, 2, 2, 2))


def has_size(shape: Sequence[int], side: int) -> bool:
    """Whether a convolution's kernels (out, in, height, width) have that side."""
    return tuple(shape[2:]) == (side, side)
