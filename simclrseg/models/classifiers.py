"""Classification networks: a linear layer on an encoder's pooled features, and out of a file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from simclrseg.errors import WeightsError
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone, feature_size, pooled_features
from simclrseg.models.weights import load_strictly, read_weights


class Classifier(nn.Module):
    """An encoder, pooling, dropout and one linear layer: (N, C, H, W) -> logits (N, classes).

    Args:
        encoder: stays under ``encoder.*``, as in a segmentation network.
        dropout: share of the pooled features that is set to 0 in training, in [0, 1).
    """

    def __init__(self, encoder: nn.Module, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(feature_size(encoder), classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(pooled_features(self.encoder, images)))
        return logits


def load_classifier(path: Path) -> tuple[Classifier, ModelMetadata]:
    """The classification network that a ``model.safetensors`` holds, in evaluation mode, and its metadata.

    Raises:
        WeightsError: if the file cannot be read, or is no classification network of ours.
    """
    tensors, metadata = read_weights(path)
    if metadata is None or metadata.task != "classification":
        what = "no metadata of simclrseg" if metadata is None else f"task {metadata.task}"
        raise WeightsError(
            f"{path} is no classification network ({what})",
            "`simclrseg finetune --task classify --dataset FOLDER` makes one",
            path=path,
        )
    backbone = build_backbone(metadata.encoder, in_channels=metadata.in_channels, stem=metadata.stem)
    model = Classifier(backbone, len(metadata.classes), dropout=metadata.dropout)
    load_strictly(model, tensors, path)
    return model, metadata
