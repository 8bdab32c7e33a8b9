"""Doubts: what makes a score mean little, a line each, with what to do next."""

from __future__ import annotations

from collections.abc import Mapping

from simclrseg.scores.wording import words

BASELINES = ("chance", "mean_fill")
"""Logs that are losses of networks that know nothing."""
SHARES = ("knn", "knn_accuracy", "linear_accuracy")
"""Scores of backbones that are at most 1."""
FEW = 10
"""Images below which a bootstrap, which draws the same few again and again, is too narrow."""


def doubts(metrics: Mapping[str, float], free: Mapping[str, float], images: int, *, unit: str) -> list[str]:
    """The doubts about a score of a fine-tuned model.

    Args:
        metrics: over the split; the first decides.
        free: what they would be without learning.
        images: how many were scored.
        unit: that has a class, ``pixels`` or ``photos``.
    """
    name, value = next(iter(metrics.items()))
    found = few_images(images)
    if free[name] >= 1:
        found.append(f"all {unit} here have one class, so {words(name)} tells nothing: score images of several")
    elif value <= free[name]:
        found.append(
            f"{words(name)} {value:.4f} is not above {free[name]:.4f}, what the same class for all {unit} gives: "
            "nothing was learned that helps here; look at the masks or labels, or train longer (--epochs)"
        )
    return found


def pretraining_doubts(
    metrics: Mapping[str, float], before: Mapping[str, float], *, untrained: bool = False
) -> list[str]:
    """The doubts about a backbone.

    Args:
        metrics: its scores, and where it was just trained the ``loss`` with what it logs.
        before: some of the scores, of the same network before.
        untrained: whether that had random weights, though the pretraining began with others.
    """
    then = "with random weights" if untrained else "before pretraining"
    remedy = "try more photos, more --epochs, a larger --batch-size or another --learning-rate of pretrain"
    found = [
        f"the loss ended at {metrics['loss']:.4f}, not below the {metrics[name]:.4f} of a network that knows nothing: "
        f"{remedy}"
        for name in BASELINES
        if name in metrics and metrics["loss"] >= metrics[name]
    ]
    for name, value in before.items():
        if name in SHARES and metrics[name] == value == 1:
            found.append(
                f"{words(name)} is perfect, as it was {then}, so it cannot tell what was learned: score photos whose "
                "classes are harder to tell apart"
            )
        elif metrics[name] <= value:
            found.append(f"{words(name)} {metrics[name]:.4f} is not above the {value:.4f} it had {then}: {remedy}")
    return found


def few_images(images: int) -> list[str]:
    """A doubt where few images were scored."""
    if images >= FEW:
        return []
    if images == 1:
        return ["one image says nothing about others, so there are no intervals: score ten or more"]
    return [f"{images} images say little about others, and intervals over so few are too narrow: score ten or more"]


def coverage(images: int, split: str) -> str:
    """A line on what intervals cover, to stand once beside a table of them."""
    if images == 1:
        return "no intervals, of one photo"
    part = "" if split == "all" else f"{split} "
    return f"95 % intervals over {images:,} {part}photos, not over trainings"
