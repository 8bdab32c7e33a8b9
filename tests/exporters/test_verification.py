"""What a check of an exported file measures, on answers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.errors import GateError
from simclrseg.exporters.verification import Agreement, check_exact, check_rounded, compare, in_batches
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics.counts import confusion_matrix, segmentation_metrics

METADATA = ModelMetadata(
    task="segmentation", encoder="resnet18", image_size=32, classes=("background", "pet"), threshold=0.5
)
ONE = [(1, 32, 32)]


def brighter_than(limit: int, noise: float = 0.0):
    """A model that calls bright pixels the foreground."""

    def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        red = images[..., 0]
        return (red / 255 + noise).astype(np.float32), (red > limit).astype(np.uint8)

    return answer


def photo(rows: int) -> np.ndarray:
    """White above, black below."""
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:rows] = 255
    return picture


def gradient() -> np.ndarray:
    return np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[:, None, None], 32, axis=1).repeat(3, axis=2)


def test_equal_answers_agree():
    found = compare(brighter_than(99), brighter_than(99), METADATA, ONE, [gradient()], [photo(9)[..., 0] // 255])
    assert (found.mask, found.probability, found.change, found.pictures) == (1.0, 0.0, 0.0, 2)
    check_exact(found)


def test_the_change_of_the_iou_is_measured_against_the_masks():
    truth = (gradient()[..., 0] > 127).astype(np.uint8)  # rows 16 to 31
    found = compare(brighter_than(127), brighter_than(191), METADATA, ONE, [gradient()], [truth])
    assert found.change == pytest.approx(1 - 8 / 16)
    assert found.facts()["iou_against"] == "masks"


def test_a_pixel_that_is_ignored_does_not_count():
    truth = (gradient()[..., 0] > 127).astype(np.uint8)
    truth[16:24] = 255
    found = compare(brighter_than(127), brighter_than(191), METADATA, ONE, [gradient()], [truth])
    assert found.change == 0


def test_without_masks_no_true_mask_could_change_the_iou_more():
    generator = np.random.default_rng(0)
    found = compare(brighter_than(127), brighter_than(143), METADATA, ONE, [gradient()])
    assert found.change == pytest.approx(1 - 14 / 16)
    first, second = (brighter_than(limit)(gradient()[None])[1][0] for limit in (127, 143))
    for share in np.linspace(0, 1, 50):
        truth = np.where(generator.random((32, 32)) < share, first, generator.integers(0, 2, (32, 32))).astype(np.uint8)
        one, two = (segmentation_metrics(confusion_matrix(mask, truth, 2))["iou"] for mask in (first, second))
        assert abs(one - two) <= found.change + 1e-12


def test_every_photo_counts_once_where_the_file_takes_four_at_a_time():
    photos = [photo(rows) for rows in range(6)]
    shapes = [(len(batch), count) for batch, count in in_batches(photos, (4, 16, 16))]
    assert shapes == [(4, 4), (4, 2)]
    seen = []

    def file(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert images.shape == (4, 32, 32, 3)
        seen.append(images)
        return brighter_than(99)(images)

    truths = [photo(0)[..., 0]] * 5 + [photo(5)[..., 0] // 255]
    found = compare(brighter_than(99), file, METADATA, [(4, 32, 32)], photos, truths)
    assert len(seen) == 3 and found.pictures == 4 + 6 and found.images == 6


def test_a_value_that_is_no_number_is_infinitely_far():
    found = compare(brighter_than(99), brighter_than(99, noise=float("nan")), METADATA, ONE, [photo(3)])
    assert found.probability == float("inf")
    with pytest.raises(GateError, match="no numbers"):
        check_rounded(found, 0.5)


@pytest.mark.parametrize(
    "found",
    [
        Agreement(mask=0.998, probability=0, pictures=1),
        Agreement(mask=1, probability=0.02, pictures=1),
        Agreement(mask=1, probability=0, pictures=1, change=0.002, images=1),
    ],
)
def test_a_file_of_the_same_precision_may_differ_by_rounding_only(found):
    with pytest.raises(GateError, match="does not say the same"):
        check_exact(found)


def test_a_file_of_lower_precision_may_cost_what_the_user_allows():
    found = Agreement(mask=0.9, probability=0.3, pictures=1, change=0.004, images=1)
    check_rounded(found, 0.005)
    with pytest.raises(GateError, match=r"more than --tolerance 0.003 allows: .* IoU changes by 0.0040 on 1 photos"):
        check_rounded(found, 0.003)
    with pytest.raises(GateError, match="pass --calibrate FOLDER"):
        check_rounded(Agreement(mask=1, probability=0, pictures=1), 0.005)
