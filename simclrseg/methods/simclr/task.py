"""SimCLR: two views of a photo should be found among the views of all others (Chen et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from simclrseg.engine.task import Batch, Logs
from simclrseg.losses.nt_xent import chance_level, contrastive_top1, nt_xent
from simclrseg.metrics import representation
from simclrseg.metrics.representation import VIEWS
from simclrseg.models.backbones import feature_size, pooled_features
from simclrseg.models.heads import ProjectionHead
from simclrseg.models.normalize import Normalize
from simclrseg.system import distributed


class SimCLR:
    """An encoder with a projection head, trained by NT-Xent.

    Args:
        backbone: the encoder, which is what remains of pretraining.
        projection_hidden, projection_dim: widths of the head's hidden layers and of its output D.
        temperature: τ of the loss.
        mean, std: of each channel, for pixels in [0, 1].
        full_scale: the stored value that is 1.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        projection_hidden: Sequence[int] = (512,),
        projection_dim: int = 128,
        temperature: float = 0.1,
        mean: Sequence[float],
        std: Sequence[float],
        full_scale: int = 255,
    ) -> None:
        self.model = ProjectedEncoder(backbone, projection_hidden, projection_dim)
        self.temperature = temperature
        self.normalize = Normalize(mean, std, full_scale)

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """``image`` (N, 2, S, S, bands) -> NT-Xent of the batch."""
        return self.batch_loss(self.embed(batch))

    def embed(self, batch: Batch) -> Tensor:
        """``image`` (n, 2, S, S, bands) -> (n, 2, D); both views share a forward pass and its batch statistics."""
        images = self.normalize(batch["image"].flatten(0, 1))  # (2n, bands, S, S)
        embeddings: Tensor = self.model(images)  # (2n, D)
        return embeddings.view(-1, 2, embeddings.shape[1])

    def batch_loss(self, embeddings: Tensor) -> tuple[Tensor, Logs]:
        """(N, 2, D) -> the loss, and what tells whether the encoder learns.

        Of several processes, each has the mean over its own samples, contrasted with those of all.

        ``top1`` is the contrastive accuracy and ``chance`` the loss of an encoder that knows nothing. ``alignment`` and
        ``uniformity``, of at most 128 photos, are the two things that lower the loss (Wang & Isola 2020, theorem 1).
        """
        z1, z2 = embeddings.unbind(1)
        loss = nt_xent(z1, z2, self.temperature)
        some1, some2 = z1[: VIEWS // 2], z2[: VIEWS // 2]
        return loss, {
            "top1": contrastive_top1(z1, z2),
            "chance": chance_level(len(embeddings) * distributed.world_size()),
            "alignment": representation.alignment(some1, some2),
            "uniformity": (representation.uniformity(some1) + representation.uniformity(some2)) / 2,
        }

    def measure(self) -> Logs:
        """``effective_rank`` of the backbone's features in the last forward pass.

        Of what remains of pretraining, not of the projections: the head ends in batch norm, which spreads out whatever
        it gets, even the rounding errors of features that are all the same.
        """
        return {"effective_rank": representation.effective_rank(self.model.features)}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """``image`` (n, S, S, bands) and ``label`` (n,) -> ``knn``, the accuracy of the features under weighted k-NN.

        Every fifth photo asks the others.
        """
        features, labels = [], []
        for batch in batches:
            features.append(pooled_features(self.model.backbone, self.normalize(batch["image"])).float())
            labels.append(batch["label"])
        return {"knn": representation.knn_among(torch.cat(features), torch.cat(labels))}


class ProjectedEncoder(nn.Module):
    """An encoder, global average pooling and the projection head: (N, C, H, W) -> (N, D).

    Attributes:
        features: (n, F) what the head got in the last forward pass, of at most ``VIEWS`` views.
    """

    features: Tensor

    def __init__(self, backbone: nn.Module, hidden: Sequence[int], out: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = ProjectionHead(feature_size(backbone), hidden, out)

    def forward(self, images: Tensor) -> Tensor:
        features = pooled_features(self.backbone, images)
        self.features = features.detach()[:VIEWS]
        projections: Tensor = self.projection_head(features)
        return projections
