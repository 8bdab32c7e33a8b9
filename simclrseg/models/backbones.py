"""Encoders: building one by its name, and what it gives.

An encoder returns a list of six feature maps at strides 1, 2, 4, 8, 16 and 32; the U-Net takes all of them,
pretraining the last. A vision transformer returns four maps of one size, for DPT.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache

import segmentation_models_pytorch as smp
import timm
import timm.models
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclrseg.errors import UnknownName, UsageError
from simclrseg.models import BACKBONES
from simclrseg.models.cnn import CHANNELS, CNN
from simclrseg.models.stems import set_cifar_stem
from simclrseg.models.vit import FAMILIES, ViTEncoder

DEPTH = 5
TIMM_PREFIX = "tu-"
ALIASES = {"vit_b_16": "tu-vit_base_patch16_224"}
OURS = ("cnn",)
"""Encoders that no library has."""
SMALLEST = 32  # side of the smallest pictures, in pixels
SIDE = 64  # of pictures that encoders are tried with, in pixels

smp.encoders.encoders["cnn"] = {"encoder": CNN, "pretrained_settings": {}, "params": {"out_channels": (3, *CHANNELS)}}


def check_backbone(name: str, *, in_channels: int = 3, image_size: int | None = None) -> None:
    """Refuse, before anything is created, an encoder that cannot be built or that no decoder can stand on.

    Args:
        name: an encoder of segmentation-models-pytorch, one of ours, or ``tu-`` and a model of timm.
        image_size: side of the pictures, in pixels, where it is known.

    Raises:
        UnknownName: if there is no such encoder; the message offers the nearest name.
        UsageError: if the encoder takes no other number of bands or no such pictures, lacks some of the five stages, or
            takes pictures of one size only.
    """
    if in_channels != 3 and name.startswith("mit_"):
        raise UsageError(
            f"backbone {name!r} takes pictures of 3 bands, not {in_channels}",
            "choose another, as resnet50",
            option="backbone",
            value=name,
        )
    if name not in BACKBONES:
        _check_timm(name, in_channels)
    if image_size is None or not is_vit(name) or (vit := _vit(name, in_channels)).resizes:
        return
    if image_size % (patch := vit.output_stride):
        raise UsageError(
            f"--image-size {image_size}: {name} cuts pictures into patches of {patch} px, so the side must be a "
            f"multiple of {patch}: {nearest_multiples(image_size, patch)}",
            option="image_size",
            value=image_size,
        )


def nearest_multiples(size: int, step: int) -> str:
    """The remedy for a side, in pixels, that is no multiple of a step."""
    below, above = size // step * step, (size // step + 1) * step
    return f"take {above} or {below}" if below >= SMALLEST else f"take {above}"


def build_backbone(name: str, *, in_channels: int = 3, stem: str = "imagenet") -> nn.Module:
    """The encoder of that name, with random weights and, if it is a ResNet, perhaps the stem ``cifar``."""
    check_backbone(name, in_channels=in_channels)
    backbone = _build(name, in_channels)
    if stem == "cifar":
        set_cifar_stem(backbone)
    return backbone


def is_vit(name: str) -> bool:
    """Tell if the encoder of that name is a vision transformer, whose feature maps are all of one size."""
    return bool(timm.models.is_model_in_modules(timm_name(name), FAMILIES))


def timm_name(name: str) -> str:
    """timm's name of an encoder; empty where it is not timm's."""
    name = ALIASES.get(name, name)
    return name.removeprefix(TIMM_PREFIX) if name.startswith(TIMM_PREFIX) else ""


def feature_size(backbone: nn.Module) -> int:
    """Number of channels of the encoder's last stage."""
    channels: list[int] = backbone.out_channels  # type: ignore[assignment]  # torch: Tensor | Module
    return channels[-1]


def pooled_features(backbone: nn.Module, images: Tensor, held: Tensor | None = None) -> Tensor:
    """Features for contrast and probes: the average of the last stage, or a transformer's class token.

    Args:
        images: (N, C, H, W), normalised.
        held: (N, H, W), False where an image shows nothing that counts; by default all does, and for a class token.

    Returns:
        (N, feature_size(backbone)).
    """
    if isinstance(backbone, ViTEncoder):
        return backbone.pooled(images)
    features: Tensor = backbone(images)[-1]
    if held is None or held.all():
        return features.mean(dim=(2, 3))
    size = features.shape[2], features.shape[3]
    shares = F.adaptive_avg_pool2d(held[:, None].to(features.dtype), size)  # (N, 1, h, w)
    return (features * shares).sum(dim=(2, 3)) / shares.sum(dim=(2, 3)).clamp(min=1e-6)


def last_maps(backbone: nn.Module) -> list[int]:
    """Channels of the feature maps that ``pooled_and_maps`` gives."""
    channels: list[int] = backbone.out_channels  # type: ignore[assignment]  # torch: Tensor | Module
    return [channels[-1]] if isinstance(backbone, ViTEncoder) else [channels[-1], channels[-2]]


def pooled_and_maps(backbone: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What ``pooled_features`` gives, and in the same forward pass the last feature maps, the very last first.

    Returns:
        (N, feature_size(backbone)), and of a convolutional network the last map and the one before it, of a transformer
        that of its patches, as (N, channels, h, w).
    """
    if isinstance(backbone, ViTEncoder):
        pooled, patches = backbone.pooled_and_map(images)
        return pooled, [patches]
    *_, before, last = backbone(images)
    return last.mean(dim=(2, 3)), [last, before]


def stages(backbone: nn.Module) -> list[list[nn.Module]]:
    """An encoder cut from the first layers to the last, for unfreezing and for rates that differ by layer.

    The stem comes first and the last stage last: of a ResNet conv1 and layer1 to layer4, of a vision transformer the
    embedding and its blocks one by one, of a convolutional network what lies between two of its feature maps. Together
    they hold every parameter once.
    """
    if isinstance(backbone, ViTEncoder):
        return backbone.stages()
    probe = copy.deepcopy(backbone).cpu().float().eval().requires_grad_()
    bands: int = backbone._in_channels  # type: ignore[assignment]  # torch: Tensor | Module
    twins = dict(zip(probe.parameters(), backbone.parameters(), strict=True))
    left = {id(parameter) for parameter in backbone.parameters()}
    parts: list[set[int]] = []
    with torch.enable_grad():
        maps = probe(torch.zeros(1, bands, SIDE, SIDE))[1:]
    for features in maps:
        used = {id(twins[parameter]) for parameter in _leaves(features)} & left
        if used:  # there is a map of no channels where an encoder has none at stride 2
            parts.append(used)
            left -= used
    parts[-1] |= left  # what no feature map depends on
    return [list(_holders(backbone, part)) for part in parts]


def _leaves(tensor: Tensor) -> Iterator[nn.Parameter]:
    """The parameters that a tensor was computed from."""
    waiting, seen = [tensor.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting.extend(before for before, _ in node.next_functions)


def _holders(module: nn.Module, wanted: set[int]) -> Iterator[nn.Module]:
    """The largest modules whose parameters are all among those wanted, in the order of the network."""
    own = [parameter for parameter in module.parameters(recurse=False) if id(parameter) in wanted]
    inside = [id(parameter) for parameter in module.parameters()]
    if inside and wanted.issuperset(inside):
        yield module
        return
    if own:
        yield nn.ParameterList(own)
    for child in module.children():
        yield from _holders(child, wanted)


def _build(name: str, in_channels: int) -> nn.Module:
    if is_vit(name):
        return ViTEncoder(timm_name(name), in_channels=in_channels)
    with warnings.catch_warnings():
        # smp discourages its `timm-` names, which are still in its table and whose weights people have
        warnings.filterwarnings("ignore", message="`timm-` encoders are deprecated", category=DeprecationWarning)
        encoder: nn.Module = smp.encoders.get_encoder(name, weights=None, in_channels=in_channels, depth=DEPTH)
    return encoder


@cache
def _vit(name: str, in_channels: int) -> ViTEncoder:
    """Without memory or arithmetic, on the meta device."""
    with torch.device("meta"):
        return ViTEncoder(timm_name(name), in_channels=in_channels)


@cache
def _check_timm(name: str, in_channels: int) -> None:
    """Try a timm model without memory or arithmetic: on the meta device."""
    if not name.startswith(TIMM_PREFIX):
        raise UnknownName("backbone", name, known=BACKBONES)
    if not timm.is_model(timm_name(name)):
        close = get_close_matches(name, [TIMM_PREFIX + known for known in timm.list_models()], n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "`import timm; timm.list_models()` lists them"
        raise UsageError(f"unknown backbone {name!r}: timm has no such model", remedy, option="backbone", value=name)
    one_size = "takes pictures of one size only"
    if is_vit(name):
        try:
            _vit(name, in_channels)
        except (ValueError, RuntimeError, AttributeError, TypeError) as error:
            raise _unusable(name, one_size, "choose one that takes any, as vit_b_16") from error
        return
    try:
        with torch.device("meta"):
            encoder = _build(name, in_channels).eval()
    except (ValueError, RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
        if "meta tensors" in str(error):  # a few models compute while they are built; nothing is known against them
            return
        raise _unusable(
            name,
            "does not halve its feature maps stage by stage, as a U-Net needs",
            "choose a convolutional one, as tu-convnext_tiny",
        ) from error
    try:
        features = encoder(torch.zeros(1, in_channels, 64, 96, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _unusable(name, one_size, "choose one that takes any, as tu-convnext_tiny") from error
    if len(features) != DEPTH + 1 or tuple(features[-1].shape[2:]) != (2, 3):
        raise _unusable(name, "lacks some of the five stages that a U-Net needs")


def _unusable(name: str, reason: str, remedy: str = "") -> UsageError:
    reason = f"backbone {name!r} cannot be used: {timm_name(name)} {reason}"
    return UsageError(reason, remedy, option="backbone", value=name)
