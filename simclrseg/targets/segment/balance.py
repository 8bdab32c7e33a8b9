"""How sure a teacher must be of each class, so that what it teaches keeps to the proportions of the masks."""

from __future__ import annotations

import torch
from torch import Tensor

from simclrseg.system import distributed

BINS = 64
SUREST = 9.0  # log-odds from which all are alike: a probability of 0.9999
LEAST_KEPT = 0.5  # of a class: unlabelled images may have other proportions than the labelled ones
DECAY = 0.98  # of the shares, a step


class ClassBalance:
    """A threshold for each class, that of a teacher and upwards.

    With one threshold for all, a network that sees too much of a class teaches itself to see still more of it: with 25
    masks of pets and no pretraining, foreground grew from 0.5 to 0.7 of its answers in 1,000 steps. Class-balanced
    self-training (Zou et al. 2018, §3.2) chooses the threshold of each class by the portion of its pixels that is kept.
    Here that portion follows from the masks: a class that has a larger part of the sure pixels than of the labelled
    ones, each against all other classes together, keeps the surest of its pixels, as many as make the two alike.

    Attributes:
        state: ``labelled`` (C,), the share of each class in the masks, and ``sure`` (C, BINS), that of each class and
            log-odds in the pixels of unlabelled images, over the last steps; zeros before the first one.
    """

    def __init__(self, num_classes: int, threshold: float) -> None:
        self._low = torch.logit(torch.tensor(threshold, dtype=torch.float64)).item()
        self._width = (max(SUREST, self._low + 1) - self._low) / BINS
        self.state = {"labelled": torch.zeros(num_classes), "sure": torch.zeros(num_classes, BINS)}
        self.begin()

    def begin(self) -> None:
        """Begin a step, whose thresholds follow from the steps before it."""
        self._lowest = lowest_bins(**self.state)
        self._counts: Tensor | None = None

    def choose(self, answers: Tensor, probability: Tensor, sure: Tensor, *, mask: Tensor, pixels: Tensor) -> Tensor:
        """Those of the ``sure`` pixels that teach, (n, S, S); of a micro-batch, which is counted.

        Args:
            answers, probability: the teacher's classes, and how sure it is of each, (n, S, S).
            mask: of the labelled images, (m, S, S).
            pixels: how many pixels of the unlabelled ones hold something, those that it is not sure of included.
        """
        bins = ((torch.logit(probability, eps=1e-6) - self._low) / self._width).long().clamp(0, BINS - 1)
        self._lowest = self._lowest.to(bins.device)
        classes, number = len(self.state["labelled"]), self.state["sure"].numel()
        found = counted((BINS * answers + bins).where(sure, number), number)
        counts = torch.cat([counted(mask, classes), found, pixels.reshape(1).to(found.device)])
        self._counts = counts if self._counts is None else self._counts + counts
        return sure & (bins >= self._lowest[answers])

    def settle(self) -> None:
        """End the step: take up what all its micro-batches and processes have counted, where there was anything."""
        if self._counts is None:
            return
        classes, bins = self.state["sure"].shape
        labelled, sure, pixels = distributed.total(self._counts).float().split([classes, classes * bins, 1])
        for name, found, of in (("labelled", labelled, labelled.sum()), ("sure", sure.view(classes, bins), pixels)):
            before, share = self.state[name].to(found.device), found / of.clamp(min=1)
            after = torch.where(before.sum() > 0, before.lerp(share, 1 - DECAY), share)
            self.state[name] = torch.where(of > 0, after, before)


def counted(numbers: Tensor, most: int) -> Tensor:
    """How often each number below ``most`` occurs, (most,) int64, without waiting for a GPU."""
    places = numbers.flatten().long().clamp(max=most)
    return places.new_zeros(most + 1).scatter_add_(0, places, torch.ones_like(places))[:most]


def lowest_bins(labelled: Tensor, sure: Tensor) -> Tensor:
    """The bin of each class, (C,), from which its pixels teach; see ``ClassBalance.state``."""
    above = sure.flip(1).cumsum(1).flip(1)  # (C, BINS): share from each bin on
    shares = above[:, 0]
    wanted = labelled * (shares.sum() - shares) / (1 - labelled).clamp(min=1e-6)
    wanted = wanted.maximum(LEAST_KEPT * shares).minimum(shares)
    return (above > wanted[:, None] + 1e-6).sum(1).clamp(max=BINS - 1)
