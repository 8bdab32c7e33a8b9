"""Segmentation networks: around an encoder that exists already, and out of a file.

To add one: write its function, add its line to SEGMENTERS.
"""

from __future__ import annotations

from pathlib import Path

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import nn

from simclrseg.errors import WeightsError
from simclrseg.metadata import ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import DEPTH, build_backbone
from simclrseg.models.dropout import add_dropout
from simclrseg.models.weights import read_weights

DECODER_CHANNELS = (256, 128, 64, 32, 16)


class Unet(smp.Unet):  # type: ignore[misc,unused-ignore]
    """smp's U-Net with its own default decoder and head, around a given encoder.

    smp.Unet would first build an encoder of its own, with random weights, only to have it replaced; its keys
    (``encoder.*``, ``decoder.*``, ``segmentation_head.*``) and its forward pass are kept.
    """

    def __init__(self, encoder: nn.Module, encoder_name: str, classes: int) -> None:
        smp.base.SegmentationModel.__init__(self)
        self.encoder = encoder
        self.decoder = UnetDecoder(
            encoder_channels=encoder.out_channels,
            decoder_channels=DECODER_CHANNELS,
            n_blocks=DEPTH,
            add_center_block=encoder_name.startswith("vgg"),
        )
        self.segmentation_head = smp.base.SegmentationHead(DECODER_CHANNELS[-1], classes, kernel_size=3)
        self.classification_head = None
        self.name = f"u-{encoder_name}"
        self.initialize()


def build_unet(backbone: nn.Module, encoder_name: str, classes: int) -> smp.Unet:
    """A U-Net whose ``encoder`` is ``backbone`` itself; the decoder and the head are new.

    Every encoder that ``check_backbone`` lets pass works, those without features at stride 2 (``mit_*``) too.

    Args:
        encoder_name: what the encoder was built as.
        classes: number of logits a pixel: 1 for foreground against background, else one a class.

    Returns:
        A module (N, C, H, W) -> logits (N, classes, H, W).
    """
    return Unet(backbone, encoder_name, classes)


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
            f"{path} is no segmentation network of this version ({what}): `simclrseg finetune` makes one"
        )
    backbone = build_backbone(metadata.encoder, in_channels=metadata.in_channels)
    model: nn.Module = SEGMENTERS[decoder](backbone, metadata.encoder, output_channels(metadata))
    add_dropout(model, metadata.dropout)
    try:
        nn.Module.load_state_dict(model, tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} does not match the network its metadata describe: {reason}") from error
    return model.eval(), metadata


def output_channels(metadata: ModelMetadata) -> int:
    """Logits a pixel: 1 for foreground against background, else one a class."""
    return 1 if metadata.threshold is not None else len(metadata.classes)
