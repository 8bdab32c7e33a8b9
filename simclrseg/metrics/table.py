"""The one table of metrics: their names, what they mean and whether more is better.

To add one: compute it where its counts are, and add its line here; console, report, Markdown, gates and help read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Metric:
    """A number that says how good a model is."""

    title: str  # how people write it
    definition: str  # a sentence
    more_is_better: bool = True  # so that ``--min`` can ask for it
    compared: bool = True  # in a column where models are compared, as far as it has a value


_loss = partial(Metric, more_is_better=False, compared=False)

METRICS: dict[str, Metric] = {
    "iou": Metric("IoU", "Intersection over union of the foreground: tp / (tp + fp + fn) pixels."),
    "miou": Metric("mean IoU", "Mean of the IoU over the classes that occur, where there are more than two."),
    "f1": Metric("F1", "2 tp / (2 tp + fp + fn), of the foreground or the mean over classes."),
    "dice": Metric("dice", "The same number as f1.", compared=False),
    "precision": Metric("precision", "tp / (tp + fp): how much of what was found is right."),
    "recall": Metric("recall", "tp / (tp + fn): how much of what is there was found."),
    "accuracy": Metric("accuracy", "Share of the pixels, or images, that have their true class."),
    "boundary_iou": Metric(
        "Boundary IoU", "IoU of the bands along both boundaries, 2 % of the diagonal wide (Cheng et al. 2021)."
    ),
    "bce": _loss(
        "BCE", "Binary cross entropy: mean of -ln p of the true class over pixels, p at least 1e-7; ce of more classes."
    ),
    "focal_loss": _loss(
        "focal loss", "Mean of (1 - p)^2 (-ln p) over pixels (Lin et al. 2017); p of the true class, no class weights."
    ),
    "dice_loss": _loss(
        "dice loss", "1 - 2 sum(p y) / (sum p + sum y), with probabilities p in the place of decisions."
    ),
    "macro_f1": Metric("macro F1", "Of images: mean of the F1 over the classes that occur."),
    "top5": Metric(
        "top 5", "Share of the images whose class is among the five likeliest, where there are more than five."
    ),
}

GATES = tuple(name for name, metric in METRICS.items() if metric.more_is_better)
COMPARED = tuple(name for name, metric in METRICS.items() if metric.compared)
