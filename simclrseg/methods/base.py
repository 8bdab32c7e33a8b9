"""Methods of pretraining, around the one flow of ``pretrain``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from simclrseg.data.augment import PAIR_STRENGTHS, Strengths
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.loader import InTurn, Loader
from simclrseg.data.samples import Samples, TwoViews
from simclrseg.engine.history import Observer
from simclrseg.engine.task import BaseTask, Batch, Logs, Task
from simclrseg.methods.knobs import MethodKnobs
from simclrseg.metrics import representation
from simclrseg.models.backbones import pooled_features
from simclrseg.models.normalize import Normalize
from simclrseg.registry import imported
from simclrseg.training.evaluators import CollapseWarning, knn_batches, lowest_rank

KnobsT = TypeVar("KnobsT", bound=MethodKnobs)
SamplesT = TypeVar("SamplesT", bound=Samples)


@dataclass(frozen=True)
class Views:
    """How the images of a dataset are seen, whatever the method.

    Attributes:
        image_size: side of the square views, in pixels.
        strict: whether an unreadable image stops the run.
        threads: that read and augment.
    """

    dataset: Dataset
    image_size: int
    strengths: Strengths
    seed: int
    strict: bool
    threads: int

    @property
    def plain(self) -> Views:
        """The same without augmentation, alike for every seed."""
        return replace(self, strengths=PAIR_STRENGTHS["none"], seed=0)

    def samples(self, kind: Callable[..., SamplesT], indices: Sequence[int], **own: Any) -> SamplesT:
        """Samples of some images, of a kind with arguments of its own."""
        shared = {name: getattr(self, name) for name in ("image_size", "strengths", "seed", "strict")}
        return kind(self.dataset, indices, **shared, **own)

    def labelled(self, indices: Sequence[int]) -> Loader | None:
        """Batches for k-NN of those images that have a label; None where too few have one."""
        return knn_batches(self.dataset, indices, image_size=self.image_size, strict=self.strict, threads=self.threads)


class Method(Generic[KnobsT]):
    """A method of pretraining with its knobs; a subclass makes the task and the samples, and changes what differs.

    Attributes:
        ENCODER: where the encoder stands in the state of the task's model.
        DECODER: the decoder that is kept too, with its encoder as one network; None where the rest is left behind.
        SHOWN: what a column of ``augmentations.png`` is, and what the network learned of it, in words.
        terms, seen, include_test: licences of the weights that ``open`` has found, the record of images that these have
            seen, and whether some are of a test list.
    """

    ENCODER: ClassVar[str] = "backbone."
    DECODER: ClassVar[str | None] = None
    SHOWN: ClassVar[str] = "a column is a photo as it was changed at random"
    terms: tuple[str, ...] = ()
    seen: str = ""
    include_test: bool = False

    def __init__(self, knobs: KnobsT) -> None:
        self.knobs = knobs

    def open(self, *, root: Path, image_size: int, begun: Mapping[str, Any]) -> dict[str, Any]:
        """Find what is needed beside the knobs, such as a teacher, before the images are opened; by default nothing.

        Args:
            root: the folder of all runs.
            image_size: side of the views, in pixels.
            begun: the environment of a run that goes on, whose state has the weights; empty for a new one.

        Returns:
            Facts for the environment of a new run; ``teacher`` is what the weights are called that it learns from.
        """
        return {}

    def fit_to(self, images: int, *, begun: Mapping[str, Any]) -> dict[str, Any]:
        """Fit what depends on the number of images that are trained on, and say so; by default nothing.

        Args:
            begun: as ``open`` takes it.

        Returns:
            Further facts for the environment of a new run.
        """
        return {}

    def make_task(self, backbone: nn.Module, encoder: str, normalize: Normalize) -> Task:
        """The network around ``backbone``, which is ``encoder`` by name, and its loss."""
        raise NotImplementedError

    def make_samples(self, views: Views, indices: Sequence[int]) -> Samples:
        """Samples that batches are made of, one for each image."""
        raise NotImplementedError

    def first_views(self, rows: dict[str, np.ndarray]) -> np.ndarray:
        """(n, V, S, S, 3) uint8: what the network sees of some samples by field, for ``augmentations.png``."""
        return rows["image"]

    def mark(self, pictures: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Draw on ``first_views`` as they are shown, (n, V, S, S, 3) uint8 RGB, what is known of them; nothing."""

    def held_out(self, count: int) -> np.ndarray:
        """Places, among so many images, of those that are scored and not trained on; none by default."""
        return np.empty(0, np.int64)

    def make_validation(
        self, views: Views, trained_on: Sequence[int], held_out: Sequence[int]
    ) -> Loader | InTurn | None:
        """Batches for the task's ``evaluate``; by default it is not scored."""
        return None

    def outlook(self, batch_size: int) -> str:
        """A line on what the loss is compared with."""
        return ""

    def callbacks(self, backbone: nn.Module, *, micro_batch: int, warmup: float) -> list[Observer]:
        """Observers that warn of what can go wrong."""
        return []

    def draw_results(self, task: Any, views: Views, indices: Sequence[int], folder: Path, *, batch_size: int) -> None:
        """Write pictures of some images that show what was trained, ``batch_size`` a forward pass; none by default."""

    def card_rows(self, batch_size: int) -> dict[str, str]:
        """Rows of the model card, by name."""
        return {"batch": f"{batch_size} images"}


class JointEmbedding(Method[KnobsT]):
    """A method that brings the embeddings of an image's views together.

    Attributes:
        COLLAPSE: what to try where the features have collapsed.
    """

    SHOWN = "a column is two random views of one photo, and it learned to call them alike"
    COLLAPSE: ClassVar[str] = "a lower --learning-rate, more --warmup-epochs or a larger --batch-size"

    def make_samples(self, views: Views, indices: Sequence[int]) -> TwoViews:
        return views.samples(TwoViews, indices)

    def make_validation(self, views: Views, trained_on: Sequence[int], held_out: Sequence[int]) -> Loader | None:
        """Labelled images for k-NN, where there are any."""
        return views.labelled(trained_on)

    def callbacks(self, backbone: nn.Module, *, micro_batch: int, warmup: float) -> list[Observer]:
        return [CollapseWarning(lowest_rank(backbone, micro_batch), warmup=warmup, advice=self.COLLAPSE)]


class Projected(Protocol):
    """An encoder with heads that pretraining leaves behind."""

    def __call__(self, images: Tensor, /) -> Any: ...

    @property
    def backbone(self) -> nn.Module:
        """The encoder."""

    @property
    def features(self) -> Tensor:
        """(n, F) pooled features in the last forward pass, of at most VIEWS views."""


class EncoderTask(BaseTask):
    """Base of tasks of which an encoder remains: k-NN accuracy of its features, and whether they collapse.

    Inherit from it before ``CoupledTask`` or ``SeparableTask``.

    Attributes:
        projected: the part of ``model`` that is trained, whose ``backbone`` is what remains of pretraining.
    """

    projected: Projected
    normalize: Normalize

    def measure(self) -> Logs:
        """``effective_rank`` of the backbone's features in the last forward pass.

        Of what remains of pretraining, not of the projections: the head ends in batch norm, which spreads out whatever
        it gets, even the rounding errors of features that are all the same. Nothing where that pass had no images, as
        it may be in one of several processes.
        """
        features = self.projected.features
        return {"effective_rank": representation.effective_rank(features)} if len(features) else {}

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """``image`` (n, S, S, bands) and ``label`` (n,) -> ``knn``, the accuracy of the features under weighted k-NN.

        Every fifth image asks the others.
        """
        features, labels = [], []
        for batch in batches:
            features.append(pooled_features(self.projected.backbone, self.normalize(batch["image"])).float())
            labels.append(batch["label"])
        return {"knn": representation.knn_among(torch.cat(features), torch.cat(labels))}


class JointEmbeddingTask(EncoderTask):
    """Base of tasks of joint embeddings, of two views of each image; it inherits as ``EncoderTask`` does."""

    # What is normalised over the two views of a lone photo has opposite signs in them, whatever they show. SimCLR's
    # loss stays above its chance level in micro-batches of 4; of 8 and more it learns, the better the more there are,
    # and from 30 on about as well as with the whole batch (figures.md).
    batch_norm_needs = 8
    too_few = "the two views of one come out as opposites"

    def embed(self, batch: Batch) -> Tensor:
        """``image`` (n, 2, S, S, bands) -> (n, 2, D); both views share a forward pass and its batch statistics."""
        embeddings: Tensor = self.projected(self.normalize(batch["image"].flatten(0, 1)))  # (2n, D)
        return embeddings.view(-1, 2, embeddings.shape[1])


def method_of(knobs: MethodKnobs) -> Method[Any]:
    """The method that takes these knobs."""
    method: Method[Any] = imported(knobs.METHOD)(knobs)
    return method
