"""Distillation: a network learns from photos without labels to see them as another one does.

What is learned are similarities, as the teacher has them: of a photo with a queue of others (SEED, Fang et al. 2021,
eq. 5), and of a photo's places with one another, as lightly-train has it too. The student's vectors may be others.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclrseg.data.loader import Loader
from simclrseg.data.samples import MixedViews
from simclrseg.engine.task import Batch, Logs, SeparableTask
from simclrseg.errors import UsageError
from simclrseg.losses.distillation import divergence, places, similarities
from simclrseg.metadata import RGB, ModelMetadata
from simclrseg.methods.base import EncoderTask, Method, Views
from simclrseg.methods.distillation.knobs import Knobs
from simclrseg.metrics.representation import VIEWS
from simclrseg.models.backbones import build_backbone, check_backbone, feature_size, last_maps, pooled_and_maps
from simclrseg.models.normalize import Normalize
from simclrseg.models.weights import load_backbone
from simclrseg.system import distributed
from simclrseg.weights.find import Pretrained, encoder_of, find_pretrained, tell_loaded

log = logging.getLogger(__name__)

GRID_STRIDE = 16  # pixels of a photo that a place of the teacher has at most
PROBE = 64  # side of the picture that tells an encoder's stride, in pixels


class Distiller(nn.Module):
    """A student, its teacher, and linear layers from the features of one to those of the other.

    Args:
        backbone: the student.
        teacher: an encoder that is not trained.
        queue: number of the teacher's past vectors. They begin as random directions, which the first steps replace.

    Attributes:
        features: (n, F) pooled features of the student in the last forward pass, of at most VIEWS photos.
    """

    backbone: nn.Module
    queue: Tensor
    features: Tensor

    def __init__(self, backbone: nn.Module, teacher: nn.Module, *, queue: int) -> None:
        super().__init__()
        size = feature_size(teacher)
        self.backbone = backbone
        self.teacher = teacher.requires_grad_(False).eval()
        self.photo_head = nn.Linear(feature_size(backbone), size)
        self.place_heads = nn.ModuleList(nn.Conv2d(channels, size, 1) for channels in last_maps(backbone))
        for layer in (self.photo_head, *self.place_heads):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.register_buffer("queue", F.normalize(torch.randn(queue, size), dim=1))

    def forward(self, images: Tensor, shown: Tensor) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
        """What the student makes of images (N, C, S, S), and the teacher of the same as they are ``shown`` to it.

        Returns:
            The student's vectors (N, D) and maps (N, D, ·, ·), the last one first; the teacher's vectors (N, D) and map
            (N, D, h, w).
        """
        with torch.no_grad():
            taught, (map_taught, *_) = pooled_and_maps(self.teacher, shown)
        pooled, maps = pooled_and_maps(self.backbone, images)
        self.features = pooled.detach()[:VIEWS]
        learned = [head(features) for head, features in zip(self.place_heads, maps, strict=True)]
        return self.photo_head(pooled), learned, taught, map_taught


class Distillation(EncoderTask, SeparableTask):
    """A student that learns the similarities that its teacher sees.

    The loss is that over photos, the divergence of their similarities with the queue, and ``place_weight`` times that
    over places, which is the divergence of their similarities with all places of the photo: of the last map, and
    ``finer`` times of the one before it. Given the queue it is a mean over photos. Each photo is mixed with its
    neighbour in the batch before both networks see it (mixup, Zhang et al. 2018).

    A U-Net needs places, and a convolutional teacher's last map has few: of 96 px 3 x 3. Its maps before are finer but
    know less. So it is shown the picture twice as large, which gives its last map a stride of 16 in the student's
    pixels, as a transformer's has, and objects a size nearer to that which it was trained at.

    Args:
        normalize, teacher_normalize: what the two take.
    """

    model: Distiller
    neighbours = 2
    batch_norm_needs = 8
    too_few = "their statistics say little of others"

    def __init__(
        self,
        backbone: nn.Module,
        teacher: nn.Module,
        normalize: Normalize,
        teacher_normalize: Normalize,
        *,
        queue: int = 1024,
        temperature: float = 0.07,
        place_weight: float = 1.0,
        finer: float = 0.5,
    ) -> None:
        self.model = self.projected = Distiller(backbone, teacher, queue=queue)
        self.teacher = self.model.teacher
        self.normalize, self.teacher_normalize = normalize, teacher_normalize
        self.temperature, self.place_weight, self.finer = temperature, place_weight, finer
        self.enlarged = enlargement(teacher, len(teacher_normalize.mean))
        self._taught: list[Tensor] = []  # the teacher's vectors of this step, until the queue has them

    def before_step(self, step: int) -> None:
        self._taught.clear()

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """``image`` (N, S, S, bands) and ``mix`` (N,) -> the loss; ``chance`` is that of all similarities alike."""
        images, shown = (
            mixed(normalize(batch["image"]), batch["mix"]) for normalize in (self.normalize, self.teacher_normalize)
        )
        if self.enlarged > 1:
            shown = F.interpolate(shown, scale_factor=self.enlarged, mode="bilinear")
        photos, maps, taught, map_taught = self.model(images, shown)
        self._taught.append(taught.float())
        with_others = similarities(taught, self.model.queue, self.temperature)
        of_photos = divergence(with_others, similarities(photos, self.model.queue, self.temperature))
        grid = (map_taught.shape[2], map_taught.shape[3])
        target = self._among_places(map_taught, grid)
        weights = [1.0, self.finer]
        of_maps = [divergence(target, self._among_places(features, grid)) for features in maps]
        of_places = torch.stack([weight * loss for weight, loss in zip(weights, of_maps, strict=False)]).sum()
        even = [divergence(logits, torch.zeros_like(logits)) for logits in (with_others, target)]
        chance = even[0] + self.place_weight * sum(weights[: len(maps)]) * even[1]
        loss = of_photos + self.place_weight * of_places
        return loss, {"photos": of_photos.detach(), "places": of_places.detach(), "chance": chance}

    def after_step(self, step: int, steps: int) -> None:
        """Put the vectors of this step's photos, of all processes, into the queue, in the place of the oldest."""
        taught = gathered(torch.cat(self._taught))
        self._taught.clear()
        size = len(self.model.queue)
        first = step * len(taught)
        number = torch.arange(first, first + len(taught), device=taught.device)[-size:]
        self.model.queue[number % size] = F.normalize(taught[-size:], dim=1)

    def _among_places(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """Similarities of the places of each photo with one another: (N, h·w, h·w)."""
        vectors = places(features, grid)
        return similarities(vectors, vectors, self.temperature)


def mixed(images: Tensor, mix: Tensor) -> Tensor:
    """Each image (N, C, S, S) times its share ``mix`` (N,), and its neighbour times the rest; an odd last one alone."""
    place = torch.arange(len(images), device=images.device)
    other = (place ^ 1).clamp(max=max(0, len(images) - 1))
    return torch.lerp(images[other], images, mix.to(images.dtype).view(-1, 1, 1, 1))


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes by rank, of which each may have another number."""
    counts = distributed.gather(torch.tensor([len(rows)])).tolist()
    padded = F.pad(rows, (0, 0, 0, max(counts) - len(rows)))
    parts = distributed.gather(padded).chunk(len(counts))
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


@torch.no_grad()
def enlargement(teacher: nn.Module, bands: int) -> int:
    """How many times larger a teacher is shown a picture, for its map to have GRID_STRIDE in the picture's pixels."""
    weight = next(teacher.parameters())
    was_training = teacher.training
    _, (features, *_) = pooled_and_maps(teacher.eval(), torch.zeros(1, bands, PROBE, PROBE).to(weight))
    teacher.train(was_training)
    return max(1, round(PROBE / features.shape[3] / GRID_STRIDE))


@dataclass(frozen=True)
class Teacher:
    """A teacher as a run records it, so that one that goes on has it in its state and needs no file.

    Attributes:
        label: what its weights are called.
    """

    label: str
    encoder: str
    in_channels: int
    stem: str
    mean: Sequence[float]
    std: Sequence[float]


class DistillationMethod(Method[Knobs]):
    """Distillation, as ``pretrain`` runs it."""

    SHOWN = "a column is a photo as it was changed at random, and it learned to see that as its teacher does"
    KEPT = "distilled_from"
    """Key of a run's environment for its ``Teacher``."""
    QUEUE = "distillation_queue"
    """The same for the size of the queue."""

    def __init__(self, knobs: Knobs) -> None:
        super().__init__(knobs)
        self.queue = knobs.queue

    def open(self, *, root: Path, image_size: int, begun: Mapping[str, Any]) -> dict[str, Any]:
        """Find the teacher and load its weights; of a run that goes on, its state has them."""
        if begun:
            self.known = Teacher(**begun[self.KEPT])
            self.network = self._build()
        else:
            found, self.known = self._find(root, image_size)
            self.network = self._build()
            bands = found.metadata.bands if found.metadata else RGB
            assert found.file is not None  # a teacher has weights
            tell_loaded(f"teacher {found.label}", load_backbone(self.network, found.file, bands=bands))
            if found.metadata is not None:
                self.terms, self.seen = found.metadata.terms, found.metadata.seen
                self.include_test = found.metadata.include_test
        larger = enlargement(self.network, self.known.in_channels)
        check_backbone(self.known.encoder, in_channels=self.known.in_channels, image_size=larger * image_size)
        return {"teacher": self.known.label, self.KEPT: asdict(self.known)}

    def _find(self, root: Path, image_size: int) -> tuple[Pretrained, Teacher]:
        name, asked = self.knobs.teacher, self.knobs.teacher_backbone
        assert name is not None  # the knobs were checked
        if asked is not None:
            check_backbone(asked)  # before anything is fetched
        found = find_pretrained(name, root=root, encoder=asked, option="--teacher")
        encoder = encoder_of(
            found, asked, named="--set distillation.teacher_backbone=NAME", option="--teacher", key="teacher_backbone"
        )
        assert encoder is not None  # there is a file
        facts = found.metadata or ModelMetadata(task="backbone", encoder=encoder, image_size=image_size)
        return found, Teacher(found.label, encoder, facts.in_channels, facts.stem, facts.mean, facts.std)

    def _build(self) -> nn.Module:
        return build_backbone(self.known.encoder, in_channels=self.known.in_channels, stem=self.known.stem)

    def fit_to(self, images: int, *, begun: Mapping[str, Any]) -> dict[str, Any]:
        """Let the queue hold half of the images at most; of a run that goes on it is as large as in its state."""
        self.queue = min(self.knobs.queue, max(2, images // 2)) if not begun else begun.get(self.QUEUE, self.queue)
        if self.queue < self.knobs.queue:
            log.info(
                f"the queue holds {self.queue:,} past photos, half of those there are, instead of {self.knobs.queue:,} "
                "(--set distillation.queue)"
            )
        return {self.QUEUE: self.queue}

    def make_task(self, backbone: nn.Module, encoder: str, normalize: Normalize) -> Distillation:
        if len(normalize.mean) != self.known.in_channels:
            raise UsageError(
                f"--teacher {self.known.label} sees pictures of {self.known.in_channels} bands, and the photos have "
                f"{len(normalize.mean)}",
                "name one that was trained on such",
                option="teacher",
                value=self.known.label,
            )
        return Distillation(
            backbone,
            self.network,
            normalize,
            Normalize(self.known.mean, self.known.std, normalize.full_scale),
            queue=self.queue,
            temperature=self.knobs.similarity_temperature,
            place_weight=self.knobs.place_weight,
            finer=self.knobs.finer,
        )

    def make_samples(self, views: Views, indices: Sequence[int]) -> MixedViews:
        return views.samples(MixedViews, indices)

    def make_validation(self, views: Views, trained_on: Sequence[int], held_out: Sequence[int]) -> Loader | None:
        """Labelled images for k-NN, where there are any."""
        return views.labelled(trained_on)

    def first_views(self, rows: dict[str, np.ndarray]) -> np.ndarray:
        """As they are augmented, before they are mixed."""
        return rows["image"][:, None]

    def outlook(self, batch_size: int) -> str:
        return f"chance is the loss of seeing all alike, teacher {self.known.label} ({self.known.encoder})"

    def card_rows(self, batch_size: int) -> dict[str, str]:
        return {
            "batch": f"{batch_size} photos, each compared with {self.queue:,} before",
            "temperature": str(self.knobs.similarity_temperature),
        }
