"""Segmentation with unlabelled images beside the labelled ones: weak-to-strong consistency.

The loop of UniMatch V2 (Yang et al. 2025, arXiv 2410.10777) for one network of any kind: the moving average of the
weights says what is to be seen in a weak view, and the network is trained to see that in two strong views of the same
image (FixMatch, Sohn et al. 2020), parts of which come from another image (CutMix for segmentation, French et al.
2020).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.func import functional_call

from simclrseg.engine.task import Batch, Logs, SeparableTask
from simclrseg.losses.segmentation import pixel_losses
from simclrseg.metadata import IGNORE
from simclrseg.targets.segment.balance import ClassBalance
from simclrseg.targets.segment.learner import Segmentation


class Consistency(SeparableTask):
    """A segmentation network that is trained on masks and on its own confident answers.

    Its loss is that of the labelled images, and ``weight`` times the mean over the two strong views of the cross
    entropy with the teacher's answers: summed over the pixels where the teacher is confident, divided by all pixels.
    The teacher is the moving average of the weights, in evaluation mode.

    Args:
        learner: the network with the loss of labelled images, which is also what is validated.
        threshold: probability from which the teacher's answer counts.
        weight: of the unlabelled images beside the labelled ones.
        ramp: steps at which their weight begins to grow from 0, and reaches ``weight``.
        balance: raise the threshold of a class that the teacher is sure of more often than the masks have it.
    """

    neighbours = 2

    def __init__(
        self,
        learner: Segmentation,
        *,
        threshold: float = 0.95,
        weight: float = 1.0,
        ramp: tuple[int, int] = (0, 0),
        balance: bool = True,
    ) -> None:
        self.model = learner.model
        self.learner = learner
        self.threshold = threshold
        self.weight = weight
        self.ramp = ramp
        self._grown = 0.0
        self._balance = ClassBalance(len(learner.classes), threshold) if balance else None
        self.memory = self._balance.state if self._balance else {}

    def before_step(self, step: int) -> None:
        first, last = self.ramp
        self._grown = min(1.0, max(0.0, (step - first) / (last - first))) if last > first else float(step >= first)
        if self._balance is not None:
            self._balance.begin()

    def after_step(self, step: int, steps: int) -> None:
        if self._balance is not None:
            self._balance.settle()

    def training_loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """Labelled ``image`` and ``mask``; ``unlabelled_image``, ``_strong`` and ``_pasted`` of as many others.

        Where these may hold padding, or nothing, there is ``unlabelled_shown``: what is False in it counts nowhere.
        """
        learner, n = self.learner, len(batch["image"])
        shown = batch.get("unlabelled_shown")
        answers, confident = self._teach(batch["unlabelled_image"], shown, batch["mask"])
        views, truths, counted = zip(*(_mixed(batch, answers, shown, view) for view in range(2)), strict=True)
        logits = learner.logits(torch.cat([batch["image"], *views])).float()  # (3n, C, S, S): batch norm sees all
        supervised = learner.loss_of(logits[:n], batch["mask"])
        consistency = cross_entropy(logits[n:], torch.cat(truths), None if shown is None else torch.cat(counted))
        logs: Logs = {"supervised": supervised.detach(), "consistency": consistency.detach(), "confident": confident}
        return supervised + self.weight * self._grown * consistency, logs

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        return self.learner.evaluate(batches)

    def _teach(self, images: Tensor, shown: Tensor | None, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Class ids (n, S, S) uint8 of the teacher, 255 where it is not believed, and the share of the others."""
        images = self.learner.normalize(images)
        with torch.no_grad(), self.mode(training=False):
            if self.average is not None:
                logits = self.average.predict(images)
            else:  # while memory and time of a step are measured
                logits = functional_call(self.model, self.model.state_dict(), (images,))
            logits = logits.float()
            probability = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
            if logits.shape[1] == 1:
                probability = torch.cat([1 - probability, probability], 1)
            highest, answers = probability.max(1)
            confident = highest >= self.threshold
            if shown is not None:
                confident &= shown
            if self._balance is not None and self.average is not None:
                pixels = torch.tensor(answers.numel()) if shown is None else shown.sum()
                confident = self._balance.choose(answers, highest, confident, mask=mask, pixels=pixels)
            if shown is None:
                return answers.where(confident, IGNORE).to(torch.uint8), confident.float().mean()
            held = shown.sum((1, 2)).clamp(min=1)
            share = (confident.sum((1, 2)) / held).mean()  # of images, as micro-batches add up to it
            return answers.where(confident, IGNORE).to(torch.uint8), share


def _mixed(batch: Batch, answers: Tensor, shown: Tensor | None, view: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """A strong view of each image with its neighbour's pixels in a rectangle; answers and what counts mixed alike."""
    images, box = batch["unlabelled_strong"][:, view], batch["unlabelled_pasted"][:, view, :, None]
    n, side = images.shape[:2]
    place = torch.arange(n, device=images.device)
    other = (place ^ 1).clamp(max=n - 1)  # the last of an odd number has itself
    along = torch.arange(side, device=images.device)
    rows, columns = ((along >= box[:, first]) & (along < box[:, first + 2]) for first in (0, 1))
    inside = rows[:, :, None] & columns[:, None]  # (n, S, S)
    counted = None if shown is None else shown[other].where(inside, shown)
    return images[other].where(inside[..., None], images), answers[other].where(inside, answers), counted


def cross_entropy(logits: Tensor, truth: Tensor, counted: Tensor | None = None) -> Tensor:
    """Cross entropy with class ids (n, S, S), summed over the pixels that are not 255 and divided by all pixels.

    Args:
        counted: (n, S, S), False in padding and where an image holds nothing. Then it is the mean over images of the
            sum divided by their own pixels.
    """
    losses = pixel_losses(logits, truth) * (truth != IGNORE)
    if counted is None:
        return losses.mean()
    return ((losses * counted).sum((1, 2)) / counted.sum((1, 2)).clamp(min=1)).mean()
