"""Doubts about scores: each a line where there is one, and none where there is none."""

from __future__ import annotations

import pytest

from simclrseg.scores.doubts import coverage, doubts, pretraining_doubts


@pytest.mark.parametrize(
    ("iou", "free", "images", "said"),
    [
        (0.31, 0.3, 10, []),
        (0.3, 0.3, 10, ["IoU 0.3000 is not above 0.3000, what the same class for all pixels gives"]),
        (0.31, 0.3, 9, ["9 images say little about others"]),
        (0.2, 0.3, 3, ["3 images say little about others", "IoU 0.2000 is not above 0.3000"]),
        (0.31, 0.3, 1, ["one image says nothing about others, so there are no intervals"]),
        (1.0, 1.0, 10, ["all pixels here have one class, so IoU tells nothing"]),
        (float("nan"), 0.3, 10, []),
    ],
)
def test_a_score_is_doubted_that_costs_nothing_or_is_of_few_images(iou, free, images, said):
    found = doubts({"iou": iou, "accuracy": 0.1}, {"iou": free, "accuracy": 0.9}, images, unit="pixels")
    assert len(found) == len(said)
    assert all(line.startswith(start) and ": " in line for line, start in zip(found, said, strict=True))


@pytest.mark.parametrize("baseline", ["chance", "mean_fill"])
def test_a_loss_that_ended_where_it_began_is_doubted(baseline):
    (line,) = pretraining_doubts({"loss": 4.85, baseline: 4.844}, {})
    assert line.startswith("the loss ended at 4.8500, not below the 4.8440 of a network that knows nothing: try")
    assert pretraining_doubts({"loss": 4.844, baseline: 4.844}, {})
    assert not pretraining_doubts({"loss": 4.843, baseline: 4.844}, {}) and not pretraining_doubts({"loss": 9.0}, {})


def test_a_backbone_is_doubted_that_is_no_better_than_before():
    (line,) = pretraining_doubts({"loss": 1.0, "knn": 0.4, "psnr": 12.0}, {"knn": 0.4, "psnr": 9.0})
    assert line.startswith("knn 0.4000 is not above the 0.4000 it had before pretraining: try")
    (line,) = pretraining_doubts({"knn": 0.4}, {"knn": 0.4}, untrained=True)  # which began with other weights
    assert line.startswith("knn 0.4000 is not above the 0.4000 it had with random weights: try")


def test_a_backbone_that_was_perfect_before_is_not_told_to_learn_more():
    (line,) = pretraining_doubts({"linear_accuracy": 1.0, "knn_accuracy": 1.0}, {"linear_accuracy": 1.0})
    assert line.startswith("linear probe is perfect, as it was before pretraining, so it cannot tell what was learned:")
    (line,) = pretraining_doubts({"linear_accuracy": 0.9}, {"linear_accuracy": 1.0})
    assert line.startswith("linear probe 0.9000 is not above the 1.0000 it had before pretraining: try more photos")
    (line,) = pretraining_doubts({"psnr": 1.0}, {"psnr": 1.0})  # of which 1 is little
    assert line.startswith("psnr 1.0000 is not above the 1.0000")


def test_what_intervals_cover_is_said():
    assert coverage(1515, "test") == "95 % intervals over 1,515 test photos, not over trainings"
    assert coverage(20, "all") == "95 % intervals over 20 photos, not over trainings"
    assert coverage(1, "test") == "no intervals, of one photo"
