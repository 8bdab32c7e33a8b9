"""Dense contrast: SimCLR beside a contrast of places, through encoder and U-Net decoder.

The same place of a photo in two crops is the positive, as in VICRegL's matching by location (Bardes et al. 2022) and
PixContrast (Xie et al. 2021), and the loss is that of DenseCL (Wang et al. 2021). There is no queue and no second
network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclrseg.charts import plots
from simclrseg.data.samples import MatchedViews
from simclrseg.engine.task import Batch, CoupledTask, Logs
from simclrseg.losses.places import place_contrast
from simclrseg.methods.base import JointEmbedding, JointEmbeddingTask, Views
from simclrseg.methods.dense.knobs import Knobs
from simclrseg.methods.simclr.method import SimCLRMethod, contrast
from simclrseg.metrics.representation import VIEWS
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import feature_size
from simclrseg.models.heads import ProjectionHead
from simclrseg.models.normalize import Normalize
from simclrseg.models.segmenters import DECODER_CHANNELS

KNOWN = 3  # numbers beside an embedding that need no gradient: x and y of its place, and whether it counts


class PlacedEncoder(nn.Module):
    """An encoder with its decoder, and a head on each: on the pooled features, and on the decoder's map at some places.

    A place is looked up in the map first and projected then. For the first layer, which is linear, that is the same as
    a 1×1 convolution before the lookup, and takes P places and not all pixels.

    Args:
        network: with ``encoder`` and ``decoder``; its last layer is left out.
        projection_head, place_head: (N, features) -> (N, D), from those of the encoder and of the decoder.
    """

    features: Tensor  # (n, F) what the head got in the last forward pass, of at most VIEWS views

    def __init__(self, network: nn.Module, projection_head: nn.Module, place_head: nn.Module) -> None:
        super().__init__()
        self.encoder = network.get_submodule("encoder")
        self.decoder = network.get_submodule("decoder")
        self.projection_head = projection_head
        self.place_head = place_head

    @property
    def backbone(self) -> nn.Module:
        """The encoder."""
        return self.encoder

    def forward(self, images: Tensor, places: Tensor) -> Tensor:
        """Embed images, and places of them.

        Args:
            images: (N, C, H, W), normalised.
            places: (N, P, 2), x and y as fractions of the images' sides.

        Returns:
            (N, 1 + P, D), not normalised to unit length; the image comes first.
        """
        maps = self.encoder(images)
        features = maps[-1].mean(dim=(2, 3))
        self.features = features.detach()[:VIEWS]
        found = look_up(self.decoder(maps), places)  # (N, P, C)
        dense: Tensor = self.place_head(found.flatten(0, 1)).unflatten(0, found.shape[:2])
        return torch.cat([self.projection_head(features)[:, None], dense], 1)


def look_up(maps: Tensor, places: Tensor) -> Tensor:
    """Features at places, between the centres of pixels by linear interpolation.

    Args:
        maps: (N, C, H, W).
        places: (N, P, 2), x and y as fractions of the maps' sides.

    Returns:
        (N, P, C), float32 at least.
    """
    height, width = maps.shape[2:]
    x, y = ((places[..., axis] * side - 0.5).clamp(0, side - 1) for axis, side in enumerate((width, height)))
    left, top = x.floor(), y.floor()
    columns, rows = (left, (left + 1).clamp(max=width - 1)), (top, (top + 1).clamp(max=height - 1))
    across, down = (1 - (x - left), x - left), (1 - (y - top), y - top)
    corners = [(i, j) for i in range(2) for j in range(2)]
    pixels = torch.stack([rows[i] * width + columns[j] for i, j in corners], 1).long()  # (N, 4, P)
    weights = torch.stack([down[i] * across[j] for i, j in corners], 1)
    # not grid_sample, which Apple's GPUs differentiate in the newest versions of torch alone
    found = maps.flatten(2).gather(2, pixels.flatten(1)[:, None].expand(-1, maps.shape[1], -1))  # (N, C, 4P)
    between: Tensor = (found.unflatten(2, (4, -1)) * weights[:, None]).sum(2)  # (N, C, P)
    return between.transpose(1, 2)


class Dense(JointEmbeddingTask, CoupledTask):
    """An encoder with a decoder, trained by NT-Xent of images and by a contrast of their places.

    Args:
        places: P.
        weight: of the contrast of places, w; that of images has 1 - w.
        temperature, place_temperature: τ of each.
        apart, negatives: of ``place_contrast``.
    """

    def __init__(
        self,
        model: PlacedEncoder,
        normalize: Normalize,
        *,
        places: int = 32,
        weight: float = 0.5,
        temperature: float = 0.1,
        place_temperature: float = 0.2,
        apart: float = 0.1,
        negatives: int = 4096,
    ) -> None:
        self.model = self.projected = model
        self.normalize = normalize
        self.places = places
        self.weight = weight
        self.temperature = temperature
        self.place_temperature = place_temperature
        self.apart = apart
        self.negatives = negatives

    def embed(self, batch: Batch) -> Tensor:
        """``image`` (n, 2, S, S, bands) with what ``MatchedViews`` say of it -> (n, 2, (1 + P)(D + 3)).

        Of each view, the embeddings of the image and of its places, and with each what needs no gradient: where the
        place lies in the image, and 1 where it is the same in both views.
        """
        vectors = self.model(self.normalize(batch["image"].flatten(0, 1)), batch["places"].flatten(0, 1))
        vectors = vectors.unflatten(0, (-1, 2))  # (n, 2, 1 + P, D)
        matched = batch["matched"][:, None, None].expand(-1, self.places, 1)
        known = F.pad(torch.cat([batch["where"], matched], 2), (0, 0, 1, 0))  # (n, 1 + P, 3), zeros for the image
        return torch.cat([vectors, known[:, None].expand(-1, 2, -1, -1)], 3).flatten(2)

    def batch_loss(self, embeddings: Tensor, step: int) -> tuple[Tensor, Logs]:
        """What ``embed`` gives of all images -> the loss, and what tells whether the network learns.

        ``top1``, ``alignment`` and ``uniformity`` are of whole images, as SimCLR has them; ``dense_top1`` is that of
        places. ``chance`` is the loss of a network that knows nothing.
        """
        vectors = embeddings.unflatten(2, (1 + self.places, -1))  # (N, 2, 1 + P, D + 3)
        known = vectors[:, 0, 1:, -KNOWN:].detach()
        loss, logs = contrast(vectors[:, :, 0, :-KNOWN], self.temperature)
        places = place_contrast(
            vectors[:, :, 1:, :-KNOWN],
            known[:, :, :2],
            known[:, 0, 2],
            self.place_temperature,
            apart=self.apart,
            negatives=self.negatives,
        )
        logs |= {
            "chance": (1 - self.weight) * logs["chance"] + self.weight * places.chance,
            "dense_loss": places.loss.detach(),
            "dense_loss_chance": places.chance,
            "dense_top1": places.top1,
            "dense_top1_chance": places.top1_chance,
        }
        return (1 - self.weight) * loss + self.weight * places.loss, logs


class DenseMethod(JointEmbedding[Knobs]):
    """Dense contrast, as ``pretrain`` runs it."""

    ENCODER = "encoder."
    DECODER = "unet"
    COLLAPSE = SimCLRMethod.COLLAPSE

    def make_task(self, backbone: nn.Module, encoder: str, normalize: Normalize) -> Dense:
        knobs = self.knobs
        network = SEGMENTERS[self.DECODER](backbone, encoder, 1)
        heads = (
            ProjectionHead(size, knobs.projection_hidden, knobs.projection_dim)
            for size in (feature_size(backbone), DECODER_CHANNELS[-1])
        )
        return Dense(
            PlacedEncoder(network, *heads),
            normalize,
            places=knobs.places,
            weight=knobs.dense_weight,
            temperature=knobs.temperature,
            place_temperature=knobs.dense_temperature,
            apart=knobs.apart,
            negatives=knobs.negatives,
        )

    def make_samples(self, views: Views, indices: Sequence[int]) -> MatchedViews:
        return views.samples(MatchedViews, indices, places=self.knobs.places, overlap=self.knobs.overlap)

    def mark(self, pictures: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Some places, in the same colour in both views."""
        for pair, places, matched in zip(pictures, rows["places"], rows["matched"], strict=True):
            for picture, points in zip(pair, places, strict=True) if matched else ():
                plots.mark_places(picture, points)

    def outlook(self, batch_size: int) -> str:
        return "chance is the loss of a network that knows nothing"

    def card_rows(self, batch_size: int) -> dict[str, str]:
        knobs = self.knobs
        return {
            "batch": f"{batch_size} photos, each contrasted with all others",
            "places": f"{knobs.places} of each photo, contrasted with {knobs.negatives:,} of others at most; "
            f"{knobs.dense_weight:.0%} of the loss",
            "temperature": f"{knobs.temperature}, of places {knobs.dense_temperature}",
        }
