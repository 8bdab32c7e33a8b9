"""Segmentation networks: around an encoder that exists already, and out of a file.

To add a decoder: write its function, add its line to SEGMENTERS.
"""

from __future__ import annotations

from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from segmentation_models_pytorch.encoders.timm_universal import TimmUniversalEncoder
from torch import Tensor, nn
from torch.nn import functional as F

from simclrseg.errors import UsageError, WeightsError
from simclrseg.metadata import ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import DEPTH, build_backbone, check_backbone, is_vit, nearest_multiples
from simclrseg.models.dropout import add_dropout
from simclrseg.models.vit import ViTEncoder
from simclrseg.models.weights import load_strictly, read_weights

DECODER_CHANNELS = (256, 128, 64, 32, 16)
ASPP_CHANNELS = DPT_CHANNELS = 256  # smp's
DILATED_STRIDE = 16
CELL = 16  # pixels of the decoder's that a patch stands for where it is no power of two
STEP = 32  # the side of a picture in multiples of which every pair works, in pixels


def default_decoder(encoder_name: str) -> str:
    """DPT for a vision transformer, whose feature maps are all of one size, else the U-Net."""
    return "dpt" if is_vit(encoder_name) else "unet"


def check_pair(decoder: str, encoder_name: str, *, image_size: int | None = None) -> None:
    """Refuse, before anything is created, a decoder that cannot stand on an encoder.

    Both are built, and see one picture, without memory or arithmetic where that can be: on the meta device.

    Args:
        image_size: side of the pictures, in pixels, where it is known.

    Raises:
        UnknownName: if there is no such decoder or encoder.
        UsageError: if the pair cannot work, or not on pictures of this size.
    """
    check_backbone(encoder_name)
    side = image_size or 2 * STEP
    try:
        fits = _fits(decoder, encoder_name, side, device="meta")
    except (NotImplementedError, RuntimeError):  # some encoders compute while they are built
        fits = _fits(decoder, encoder_name, side, device="cpu")
    if not fits:
        raise UsageError(
            f"--image-size {side} does not work with --decoder {decoder} on {encoder_name}: the side must be a "
            f"multiple of {STEP}: {nearest_multiples(side, STEP)}",
            option="image_size",
            value=side,
        )


def _fits(decoder: str, encoder_name: str, side: int, *, device: str) -> bool:
    """Tell if logits come out as large as the picture."""
    with torch.device(device), torch.no_grad():
        model = SEGMENTERS[decoder](build_backbone(encoder_name), encoder_name, 1).eval()
        try:
            return bool(model(torch.zeros(1, 3, side, side)).shape[2:] == (side, side))
        except (AssertionError, RuntimeError) as error:
            if isinstance(error, NotImplementedError) or (device == "meta" and "meta" in str(error)):
                raise
            return False


def build_unet(backbone: nn.Module, encoder_name: str, classes: int) -> nn.Module:
    """A U-Net (Ronneberger et al. 2015) whose ``encoder`` is ``backbone`` itself; the decoder and the head are new.

    Every convolutional encoder works, those without features at stride 2 (``mit_*``) too.

    Args:
        encoder_name: what the encoder was built as.
        classes: number of logits a pixel: 1 for foreground against background, else one a class.

    Returns:
        A module (N, C, H, W) -> logits (N, classes, H, W). The builders below take and give the same, and raise
        UsageError where the encoder's feature maps are not what the decoder needs.
    """
    _refuse_vit(backbone, encoder_name, "unet")
    decoder = UnetDecoder(
        encoder_channels=backbone.out_channels,
        decoder_channels=DECODER_CHANNELS,
        n_blocks=DEPTH,
        add_center_block=encoder_name.startswith("vgg"),
    )
    head = smp.base.SegmentationHead(DECODER_CHANNELS[-1], classes, kernel_size=3)
    return _around(smp.Unet, backbone, decoder, head)


def build_unetplusplus(backbone: nn.Module, encoder_name: str, classes: int) -> nn.Module:
    """A U-Net++ (Zhou et al. 2018): the skip connections pass through convolutions of their own."""
    _refuse_vit(backbone, encoder_name, "unetplusplus")
    if 0 in backbone.out_channels:  # type: ignore[operator]  # torch: Tensor | Module
        raise UsageError(
            f"--decoder unetplusplus needs features at stride 2, and {encoder_name} has none",
            "pass --decoder unet or fpn",
            option="decoder",
        )
    decoder = UnetPlusPlusDecoder(
        encoder_channels=backbone.out_channels,
        decoder_channels=DECODER_CHANNELS,
        n_blocks=DEPTH,
        center=encoder_name.startswith("vgg"),
    )
    head = smp.base.SegmentationHead(DECODER_CHANNELS[-1], classes, kernel_size=3)
    return _around(smp.UnetPlusPlus, backbone, decoder, head)


def build_fpn(backbone: nn.Module, encoder_name: str, classes: int) -> nn.Module:
    """A feature pyramid network (Kirillov et al. 2019), with smp's dropout of 0.2."""
    _refuse_vit(backbone, encoder_name, "fpn")
    decoder = FPNDecoder(encoder_channels=backbone.out_channels, encoder_depth=DEPTH)
    head = smp.base.SegmentationHead(decoder.out_channels, classes, kernel_size=1, upsampling=4)
    return _around(smp.FPN, backbone, decoder, head)


def build_deeplabv3plus(backbone: nn.Module, encoder_name: str, classes: int) -> nn.Module:
    """DeepLabV3+ (Chen et al. 2018), with smp's dropout of 0.5; the encoder's last stage is dilated, not halved."""
    _refuse_vit(backbone, encoder_name, "deeplabv3plus")
    try:
        _dilate(backbone)
    except (AssertionError, AttributeError, NotImplementedError, TypeError, ValueError) as error:
        raise UsageError(
            f"--decoder deeplabv3plus needs an encoder whose last stage can be dilated, and that of {encoder_name} "
            "cannot",
            "pass --decoder unet or fpn",
            option="decoder",
        ) from error
    decoder = DeepLabV3PlusDecoder(
        encoder_channels=backbone.out_channels,
        encoder_depth=DEPTH,
        out_channels=ASPP_CHANNELS,
        atrous_rates=(12, 24, 36),
        output_stride=DILATED_STRIDE,
        aspp_separable=True,
        aspp_dropout=0.5,
    )
    head = smp.base.SegmentationHead(ASPP_CHANNELS, classes, kernel_size=1, upsampling=4)
    return _around(smp.DeepLabV3Plus, backbone, decoder, head)


def _dilate(backbone: nn.Module) -> None:
    """Make an encoder's last stage keep the size of its maps, so that its stride is 16; the weights stay."""
    if isinstance(backbone, TimmUniversalEncoder):  # strides are an argument of timm's constructors
        dilated = TimmUniversalEncoder(
            backbone.name, pretrained=False, in_channels=backbone._in_channels, output_stride=DILATED_STRIDE
        )
        dilated.model.load_state_dict(backbone.model.state_dict())
        backbone.model = dilated.model
    else:
        backbone.make_dilated(DILATED_STRIDE)  # type: ignore[operator]  # torch: Tensor | Module
    backbone._output_stride = DILATED_STRIDE  # type: ignore[assignment]  # torch: Tensor | Module


def build_dpt(backbone: nn.Module, encoder_name: str, classes: int) -> nn.Module:
    """DPT (Ranftl et al. 2021) for vision transformers, whose class tokens join the maps of their blocks."""
    if not isinstance(backbone, ViTEncoder):
        raise UsageError(
            f"--decoder dpt is for vision transformers, and {encoder_name} is none",
            "pass --decoder unet, or --backbone vit_b_16",
            option="decoder",
        )
    strides = [CELL] * len(backbone.output_strides) if backbone.resizes else backbone.output_strides
    decoder = DPTDecoder(
        encoder_out_channels=backbone.out_channels,
        encoder_output_strides=strides,
        encoder_has_prefix_tokens=backbone.has_prefix_tokens,
        readout="cat" if backbone.has_prefix_tokens else "ignore",
    )
    head = DPTSegmentationHead(in_channels=DPT_CHANNELS, out_channels=classes, kernel_size=3, upsampling=2)
    return _around(ResizingDPT if backbone.resizes else smp.DPT, backbone, decoder, head)


class ResizingDPT(smp.DPT):  # type: ignore[misc,unused-ignore]
    """smp's DPT on an encoder that resizes pictures inside: its logits are brought back to the picture's size."""

    requires_divisible_input_shape = False

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        size = [int(side) for side in images.shape[2:]]
        return F.interpolate(logits, size=size, mode="bilinear")


def _around(kind: type[nn.Module], encoder: nn.Module, decoder: nn.Module, head: nn.Module) -> nn.Module:
    """A network of smp, of its class, keys (``encoder.*``, ``decoder.*``, ``segmentation_head.*``) and forward pass.

    Its own constructor would first build an encoder with random weights, only to have it replaced.
    """
    model = kind.__new__(kind)
    smp.base.SegmentationModel.__init__(model)
    model.encoder, model.decoder, model.segmentation_head = encoder, decoder, head
    model.classification_head = None  # type: ignore[assignment]  # torch: Tensor | Module
    model.initialize()  # type: ignore[operator]  # torch: Tensor | Module
    return model


def _refuse_vit(backbone: nn.Module, encoder_name: str, decoder: str) -> None:
    if isinstance(backbone, ViTEncoder):
        raise UsageError(
            f"--decoder {decoder} needs feature maps of five sizes, and those of {encoder_name}, a vision "
            "transformer, are all of one",
            "pass --decoder dpt",
            option="decoder",
            value=decoder,
        )


def load_segmenter(path: Path) -> tuple[nn.Module, ModelMetadata]:
    """The segmentation network that a ``model.safetensors`` holds, in evaluation mode, and its metadata.

    Raises:
        WeightsError: if the file cannot be read, or is no segmentation network of ours.
    """
    tensors, metadata = read_weights(path)
    decoder = "" if metadata is None else metadata.decoder or ""
    if metadata is None or metadata.task != "segmentation" or decoder not in SEGMENTERS:
        what = "no metadata of simclrseg" if metadata is None else f"task {metadata.task}, decoder {metadata.decoder}"
        raise WeightsError(
            f"{path} is no segmentation network of this version ({what})",
            "`simclrseg finetune --dataset FOLDER` makes one",
            path=path,
        )
    backbone = build_backbone(metadata.encoder, in_channels=metadata.in_channels)
    outputs = 1 if metadata.threshold is not None else len(metadata.classes)
    model: nn.Module = SEGMENTERS[decoder](backbone, metadata.encoder, outputs)
    add_dropout(model, metadata.dropout)
    load_strictly(model, tensors, path)
    return model, metadata
