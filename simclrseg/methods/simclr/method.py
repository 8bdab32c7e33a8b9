"""SimCLR: two views of an image should be found among the views of all others (Chen et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from simclrseg.engine.task import CoupledTask, Logs
from simclrseg.losses.nt_xent import chance_level, contrastive_top1, nt_xent
from simclrseg.methods.base import JointEmbedding, JointEmbeddingTask
from simclrseg.methods.simclr.knobs import Knobs
from simclrseg.metrics import representation
from simclrseg.metrics.representation import VIEWS
from simclrseg.models.backbones import feature_size
from simclrseg.models.heads import ProjectedEncoder, ProjectionHead
from simclrseg.models.normalize import Normalize
from simclrseg.system import distributed


class SimCLR(JointEmbeddingTask, CoupledTask):
    """An encoder with a projection head, trained by NT-Xent.

    Args:
        projection_hidden, projection_dim: widths of the head's hidden layers and of its output D.
        temperature: τ of the loss.
    """

    def __init__(
        self,
        backbone: nn.Module,
        normalize: Normalize,
        *,
        projection_hidden: Sequence[int] = (512,),
        projection_dim: int = 128,
        temperature: float = 0.1,
    ) -> None:
        head = ProjectionHead(feature_size(backbone), projection_hidden, projection_dim)
        self.model = self.projected = ProjectedEncoder(backbone, head)
        self.normalize = normalize
        self.temperature = temperature

    def batch_loss(self, embeddings: Tensor, step: int) -> tuple[Tensor, Logs]:
        """(N, 2, D) -> the loss, and what tells whether the encoder learns."""
        return contrast(embeddings, self.temperature)


def contrast(embeddings: Tensor, temperature: float) -> tuple[Tensor, Logs]:
    """NT-Xent of two views (N, 2, D), and what tells whether the encoder learns.

    Of several processes, each has the mean over its own samples, contrasted with those of all.

    ``top1`` is the contrastive accuracy and ``chance`` the loss of an encoder that knows nothing. ``alignment`` and
    ``uniformity``, of at most 128 images, are the two things that lower the loss (Wang & Isola 2020, theorem 1).
    """
    z1, z2 = embeddings.unbind(1)
    loss = nt_xent(z1, z2, temperature)
    some1, some2 = z1[: VIEWS // 2], z2[: VIEWS // 2]
    return loss, {
        "top1": contrastive_top1(z1, z2),
        "chance": chance_level(len(embeddings) * distributed.world_size()),
        "alignment": representation.alignment(some1, some2),
        "uniformity": (representation.uniformity(some1) + representation.uniformity(some2)) / 2,
    }


class SimCLRMethod(JointEmbedding[Knobs]):
    """SimCLR, as ``pretrain`` runs it."""

    COLLAPSE = JointEmbedding.COLLAPSE.replace(" or", ",") + " or a higher --temperature"

    def make_task(self, backbone: nn.Module, encoder: str, normalize: Normalize) -> SimCLR:
        return SimCLR(backbone, normalize, **self.knobs.model_dump())

    def outlook(self, batch_size: int) -> str:
        return f"chance level of the loss {chance_level(batch_size):.2f}"

    def card_rows(self, batch_size: int) -> dict[str, str]:
        return {
            "batch": f"{batch_size} photos, each contrasted with all others",
            "temperature": str(self.knobs.temperature),
        }
