"""First layers: of a ResNet for small pictures, and fitted to weights that were trained with others.

Chen et al. 2020, §B.9: for CIFAR the 7×7 convolution of stride 2 becomes a 3×3 one of stride 1, and the max-pool goes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from torch import Tensor, nn

from simclrseg.errors import UsageError
from simclrseg.images.bands import are_named
from simclrseg.metadata import RGB, ModelMetadata, numbered_bands

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
    if _has_size(state[KERNEL].shape, 3):
        return dict(state)
    return {**state, KERNEL: state[KERNEL][:, :, 2:5, 2:5].contiguous()}


def adapt_first_layer(
    theirs: dict[str, Tensor],
    own: Mapping[str, Tensor],
    adapt: Collection[str],
    *,
    metadata: ModelMetadata | None,
    wanted: Sequence[str],
) -> tuple[dict[str, Tensor], list[str], str]:
    """Bring the first convolution to the encoder's shape: of our files as they say what it is, else if asked.

    Args:
        theirs, own: the file's tensors and the encoder's, by the encoder's keys.
        adapt: what is asked, of ``bands`` and ``stem``.
        metadata: of the file; where there is none, three bands are taken for red, green and blue.
        wanted: bands of the encoder.

    Returns:
        The state; lines that say what was done, or could be; and the layer's key where something could be.
    """
    first = next((key for key, tensor in own.items() if tensor.ndim == 4), "")
    if (kernel := theirs.get(first)) is None or kernel.ndim != 4:
        return theirs, [], ""
    done, offered = list[str](), list[str]()
    shape = own[first].shape
    small = metadata is not None and metadata.stem == "cifar"
    if small and _has_size(shape, 3):
        theirs = restored(theirs)
    elif _has_size(kernel.shape, 3) and _has_size(shape, 7) and len(kernel) == shape[0]:
        if "stem" in adapt or small:
            theirs = {**theirs, first: F.pad(kernel, (2, 2, 2, 2))}
            done.append("3x3 stem centred in 7x7")
        else:
            offered.append(f"--adapt stem would fit {first} {tuple(kernel.shape)}")
    names = metadata.bands if metadata is not None else None
    bands = names or (RGB if kernel.shape[1] == len(RGB) else numbered_bands(kernel.shape[1]))
    fitted, line = adapt_bands(theirs, own, bands=bands, wanted=wanted)
    if line and (names is not None or "bands" in adapt):
        theirs = fitted
        done.append(line)
    elif line:
        offered.append(f"--adapt bands would fit {first} {tuple(kernel.shape)}")
    return theirs, done + offered, first if offered else ""


def adapt_bands(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, bands: Sequence[str], wanted: Sequence[str]
) -> tuple[dict[str, Tensor], str]:
    """Give the first layer's kernels (out, bands, height, width) the bands of another network.

    A band that both have keeps its kernels, so that 12 bands become 3 by selecting red, green and blue. A band that is
    new gets the mean of those that both have, or of all where none is in common. As more or fewer bands are summed
    then, kernels are multiplied by the old number over the new one, as timm and segmentation-models-pytorch do; a
    network that goes from 3 bands to 12 and back is the one that it was.

    Returns:
        The state, and a line that says what was done; empty where nothing was.
    """
    first = next(
        (
            key
            for key, kernels in own.items()
            if key in state and kernels.ndim == 4 and kernels.shape[1] == len(wanted)
            if state[key].shape == (len(kernels), len(bands), *kernels.shape[2:])
        ),
        None,
    )
    if first is None or tuple(bands) == tuple(wanted):
        return dict(state), ""
    shared = [band for band in wanted if band in bands]
    new = [band for band in wanted if band not in bands]
    kernels = state[first]
    mean = kernels[:, [bands.index(band) for band in shared or bands]].mean(dim=1)
    chosen = [mean if band in new else kernels[:, bands.index(band)] for band in wanted]
    adapted = torch.stack(chosen, dim=1) * (len(bands) / len(wanted))
    by_number = "" if are_named(bands) and are_named(wanted) else " by their numbers"
    parts = [f"{', '.join(shared)} selected{by_number}"] if len(shared) < len(bands) and shared else []
    if new:
        parts.append(f"{', '.join(new)} made from the mean of {', '.join(shared or bands)}")
    line = f"first layer adapted from {len(bands)} bands to {len(wanted)}" + (f" ({'; '.join(parts)})" if parts else "")
    return {**state, first: adapted}, line


def _has_size(shape: Sequence[int], side: int) -> bool:
    """Tell if a convolution's kernels (out, in, height, width) have that side."""
    return tuple(shape[2:]) == (side, side)
