"""``--init-decoder``: the decoder of a network that was pretrained whole, as reconstruction and dense leave it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from torch import nn

from simclrseg.errors import UsageError
from simclrseg.models.weights import LoadReport, load_backbone, read_metadata
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE
from simclrseg.weights.find import Pretrained

log = logging.getLogger(__name__)


def load_decoder(model: nn.Module, pretrained: Pretrained, *, decoder: str) -> LoadReport:
    """Load ``model.decoder``, and say what of the file does not belong there: the encoder, and last layers.

    A last layer paints colours, or projects, and is never taken: with three classes one that paints would even fit.
    """
    file = network_file(pretrained)
    theirs = read_metadata(file)
    if theirs is not None and theirs.decoder not in (None, decoder):
        raise UsageError(
            f"--init-decoder: {pretrained.label} has the decoder {theirs.decoder}, and the network here {decoder}",
            f"pass --decoder {theirs.decoder}, or leave --init-decoder out",
            option="decoder",
            value=decoder,
        )
    report = load_backbone(model.decoder, file, minimum=1.0, what="decoder")  # type: ignore[arg-type]
    log.info(f"decoder of {pretrained.label}: {report}; the last layer is new")
    return report


def network_file(pretrained: Pretrained) -> Path:
    """The file of the whole network: the encoder's neighbour in its run's folder, or the weights themselves."""
    file = pretrained.file
    if file is not None and file.name == BACKBONE_FILE and file.with_name(MODEL_FILE).is_file():
        pretrained = replace(pretrained, file=file.with_name(MODEL_FILE))
    file, metadata = pretrained.file, pretrained.metadata
    if file is None or (metadata is not None and metadata.decoder is None):
        raise UsageError(
            f"--init-decoder: {pretrained.label} has no decoder",
            "leave it out, or pretrain with --method reconstruction or dense",
            option="init_decoder",
        )
    return file
