"""Encoders: building one by its name, and what it gives.

An encoder returns a list of six feature maps at strides 1, 2, 4, 8, 16 and 32; the U-Net takes all of them,
pretraining the last.
"""

from __future__ import annotations

import warnings
from difflib import get_close_matches

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from simclrseg.errors import UnknownName, UsageError
from simclrseg.models import BACKBONES

DEPTH = 5
TIMM_PREFIX = "tu-"


def check_backbone(name: str, *, in_channels: int = 3) -> None:
    """Refuse, before anything is created, an encoder that cannot be built or that no U-Net can stand on.

    Args:
        name: an encoder of segmentation-models-pytorch, or ``tu-`` and a model of timm.
        in_channels: number of bands of a picture.

    Raises:
        UnknownName: if there is no such encoder; the message offers the nearest name.
        UsageError: if the encoder takes no other number of bands, lacks some of the five stages, or takes pictures of
            one size only.
    """
    if in_channels != 3 and name.startswith("mit_"):
        raise UsageError(f"backbone {name!r} takes pictures of 3 bands, not {in_channels}: choose another, as resnet50")
    if name in BACKBONES:
        return
    if not name.startswith(TIMM_PREFIX):
        raise UnknownName("backbone", name, known=BACKBONES)
    if not timm.is_model(name.removeprefix(TIMM_PREFIX)):
        close = get_close_matches(name, [TIMM_PREFIX + known for known in timm.list_models()], n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "`import timm; timm.list_models()` lists them"
        raise UsageError(f"unknown backbone {name!r}: timm has no such model; {remedy}")
    _check_stages(name, in_channels)


def build_backbone(name: str, *, in_channels: int = 3) -> nn.Module:
    """The encoder of that name, with random weights.

    Raises:
        UnknownName, UsageError: as ``check_backbone``.
    """
    check_backbone(name, in_channels=in_channels)
    return _build(name, in_channels)


def feature_size(backbone: nn.Module) -> int:
    """Number of channels of the encoder's last stage."""
    channels: list[int] = backbone.out_channels  # type: ignore[assignment]
    return channels[-1]


def pooled_features(backbone: nn.Module, images: Tensor) -> Tensor:
    """Global average of the last stage: what pretraining contrasts and what probes look at.

    Args:
        images: (N, C, H, W), normalised.

    Returns:
        (N, feature_size(backbone)).
    """
    features: Tensor = backbone(images)[-1]
    return features.mean(dim=(2, 3))


def _build(name: str, in_channels: int) -> nn.Module:
    with warnings.catch_warnings():
        # smp discourages its `timm-` names, which are still in its table and whose weights people have
        warnings.filterwarnings("ignore", message="`timm-` encoders are deprecated", category=DeprecationWarning)
        encoder: nn.Module = smp.encoders.get_encoder(name, weights=None, in_channels=in_channels, depth=DEPTH)
    return encoder


def _check_stages(name: str, in_channels: int) -> None:
    """Try a timm model without memory or arithmetic: on the meta device."""
    model = name.removeprefix(TIMM_PREFIX)
    try:
        with torch.device("meta"):
            encoder = _build(name, in_channels).eval()
    except (ValueError, RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
        if "meta tensors" in str(error):  # a few models compute while they are built; nothing is known against them
            return
        raise UsageError(
            f"backbone {name!r} cannot be used: {model} does not halve its feature maps stage by stage, "
            "as a U-Net needs; choose a convolutional one, as tu-convnext_tiny"
        ) from error
    try:
        features = encoder(torch.zeros(1, in_channels, 64, 96, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"backbone {name!r} cannot be used: {model} takes pictures of one size only; "
            "choose one that takes any, as tu-convnext_tiny"
        ) from error
    if len(features) != DEPTH + 1 or tuple(features[-1].shape[2:]) != (2, 3):
        raise UsageError(f"backbone {name!r} cannot be used: {model} lacks some of the five stages that a U-Net needs")
