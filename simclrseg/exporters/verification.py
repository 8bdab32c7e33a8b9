"""Does an exported file say the same as the network? Both get the same pictures, and their answers are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from simclrseg.errors import GateError
from simclrseg.exporters.graphs import pixel_type
from simclrseg.images.resizing import resize_image, resize_mask
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import confusion_matrix, segmentation_metrics

MINIMUM_AGREEMENT = 0.999  # share of the pixels, or of the pictures whose labels are compared
MAXIMUM_DIFFERENCE = 1e-2  # in probability; the rounding of a network after two steps of training reached 0.002
MAXIMUM_CHANGE = 0.001  # of the IoU

Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(N, H, W, bands) -> probability and ids, as graphs.py has them."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of an exported file and the network.

    Attributes:
        mask: share of the pixels with the same mask value; of a classifier, share of the pictures with the same label.
        probability: greatest difference of two probabilities; infinite where one is no number.
        pictures: number of pictures compared, generated ones and real images.
        change: by how much the IoU (of several classes: its mean) on the images differs, at most; None without images.
            Without true masks it is 1 - IoU of the two answers with each other. As 1 - IoU obeys the triangle
            inequality (Lipkus 1999), the IoU with any true mask differs by no more. Of a classifier it is the share of
            the images whose label differs, which bounds the change of its accuracy likewise.
        images: number of images among the pictures.
        against: what the IoU was measured against: ``masks``, or ``network`` where there are no masks.
        labels: whether labels of pictures were compared, not masks.
    """

    mask: float
    probability: float
    pictures: int
    change: float | None = None
    images: int = 0
    against: str = "masks"
    labels: bool = False

    def __str__(self) -> str:
        if self.labels:
            agree = f"labels agree on {self.mask:.1%} of {self.pictures} pictures"
            images = f"other labels for {self.change:.1%} of {self.images} photos" if self.images else "without photos"
        else:
            agree = f"masks agree on {self.mask:.3%} of the pixels of {self.pictures} pictures"
            if self.change is None:
                images = "IoU not measured, for there are no photos"
            elif self.against == "network":
                images = f"IoU changes by at most {self.change:.4f} on {self.images} photos (they have no masks)"
            else:
                images = f"IoU changes by {self.change:.4f} on {self.images} photos"
        return f"{agree}, probabilities to {self.probability:.1e}; {images}"

    def facts(self) -> dict[str, float | int | str]:
        """The result of the check, for the file's metadata."""
        agreement, change = ("label_agreement", "labels_changed") if self.labels else ("mask_agreement", "iou_change")
        facts: dict[str, float | int | str] = {agreement: self.mask, "probability_difference": self.probability}
        if self.change is not None:
            facts |= {change: self.change, "photos": self.images}
            facts |= {} if self.labels else {"iou_against": self.against}
        return facts


def answer_of(network: nn.Module) -> Answer:
    """The network as a function of arrays."""

    def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            probability, ids = network(torch.from_numpy(images))
        return probability.numpy(), ids.numpy()

    return answer


def compare(
    network: Answer,
    file: Answer,
    metadata: ModelMetadata,
    batches: Sequence[tuple[int, int, int]],
    images: Sequence[np.ndarray] = (),
    truths: Sequence[np.ndarray] = (),
) -> Agreement:
    """Put generated pictures and images through both.

    Args:
        batches: (N, H, W) of the generated pictures; the images take the first of them, and are squashed to its size.
        images: (H, W, bands) each.
        truths: for each image its mask (H, W), 255 where it does not count; or none at all.
    """
    same = pixels = changed = 0
    labels = False  # a class for a whole picture
    difference = 0.0
    classes = max(len(metadata.classes), 2)
    matrices = np.zeros((2, classes, classes), np.int64)

    def both(batch: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        nonlocal same, pixels, difference, labels
        (expected, ours), (given, theirs) = network(batch), file(batch)
        if given.shape != expected.shape or theirs.shape != ours.shape:
            raise GateError(
                f"the exported model does not say the same as the network: for pictures {batch.shape} it gives "
                f"{given.shape} and {theirs.shape}, not {expected.shape} and {ours.shape}"
            )
        worst = float(np.abs(given[:count] - expected[:count]).max())
        difference = max(difference, worst) if np.isfinite(worst) else float("inf")
        same += int((theirs[:count] == ours[:count]).sum())
        pixels += ours[:count].size
        labels = ours.ndim == 1
        return ours[:count], theirs[:count]

    for batch in generated(batches, metadata):
        both(batch, len(batch))
    done = 0
    for batch, count in in_batches(images, batches[0]):
        answers = both(batch, count)
        masks = answers[0]
        if labels:
            changed += int((answers[1] != masks).sum())
            continue
        if truths:
            masks = np.stack([resize_mask(truth, batches[0][1:]) for truth in truths[done : done + count]])
        for place, ids in enumerate(answers):
            matrices[place] += confusion_matrix(ids, masks, classes)
        done += count
    change = None
    if images:
        change = changed / len(images) if labels else abs(_iou(matrices[0]) - _iou(matrices[1]))
    return Agreement(
        mask=same / pixels,
        probability=difference,
        pictures=sum(batch[0] for batch in batches) + len(images),
        change=change,
        images=len(images),
        against="masks" if truths and not labels else "network",
        labels=labels,
    )


def check_exact(agreement: Agreement) -> None:
    """Hold a file that computes as the network does to what rounding explains."""
    if (
        agreement.mask < MINIMUM_AGREEMENT
        or agreement.probability > MAXIMUM_DIFFERENCE
        or (agreement.change or 0.0) > MAXIMUM_CHANGE
    ):
        raise GateError(
            f"the exported model does not say the same as the network: {agreement} (at least {MINIMUM_AGREEMENT:.1%}, "
            f"at most {MAXIMUM_DIFFERENCE:g} and at most {MAXIMUM_CHANGE:g} are asked)"
        )


def check_rounded(agreement: Agreement, tolerance: float) -> None:
    """Hold a file of lower precision to the change of the IoU, or of the share of labels, that it may cost."""
    if not np.isfinite(agreement.probability):
        raise GateError(f"the exported model gives values that are no numbers: {agreement}", "take another --precision")
    if agreement.change is None:
        raise GateError("a file of lower precision is checked on photos, and there are none", "pass --calibrate FOLDER")
    if agreement.change > tolerance:
        raise GateError(
            f"the exported model costs more than --tolerance {tolerance:g} allows: {agreement}",
            "take another --precision, or a higher tolerance if that is good enough",
        )


def in_batches(images: Sequence[np.ndarray], shape: tuple[int, int, int]) -> Iterator[tuple[np.ndarray, int]]:
    """Images as arrays of one shape (N, H, W), squashed, and how many each holds; the last repeats its last image."""
    count, height, width = shape
    for first in range(0, len(images), count):
        some = [resize_image(image, (height, width)) for image in images[first : first + count]]
        yield np.stack([*some, *[some[-1]] * (count - len(some))]), len(some)


def generated(batches: Sequence[tuple[int, int, int]], metadata: ModelMetadata) -> Iterator[np.ndarray]:
    """Pictures to compare on where there are no images: (N, H, W, bands) uint8 or uint16 for each (N, H, W)."""
    generator = np.random.default_rng(0)
    for count, height, width in batches:
        # large spots of colour rather than noise, which all networks see as the same grey
        spots = (count, height // 8 + 1, width // 8 + 1, metadata.in_channels)
        coarse = generator.integers(0, metadata.full_scale, spots, pixel_type(metadata), endpoint=True)
        yield coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


def _iou(matrix: np.ndarray) -> float:
    return float(next(iter(segmentation_metrics(matrix).values())))
