"""Folders with labels of labelling tools, as people have them, are read as masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.locate import open_dataset

SQUARE = [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]  # of the image
CASES = {
    "14-yolo": SQUARE,
    "14-yolo/data.yaml": SQUARE,
    "14b-labelme": [[2, 2], [40, 2], [40, 40]],
    "14c-coco": [[1, 1], [10, 1], [10, 10]],
    "14c-coco/annotations/instances.json": [[1, 1], [10, 1], [10, 10]],
}


@pytest.mark.parametrize("case", CASES)
def test_polygons_are_read_as_masks(field_cases, case):
    dataset = open_dataset(str(field_cases / case))
    assert len(dataset) == 14 and dataset.classes == ("background", "pet") and not dataset.official
    for index in range(14):
        mask, points = dataset.mask(index), np.array(CASES[case], float)
        assert mask.shape == dataset.image(index).shape[:2]
        if points.max() < 1:
            points = points * mask.shape[::-1]
        drawn = cv2.fillPoly(np.zeros_like(mask), [np.round(points).astype(np.int32)], 1)  # with all of its edge
        assert (mask <= drawn).all() and (mask >= cv2.erode(drawn, np.ones((3, 3)))).all() and mask.any()


@pytest.mark.parametrize("case", ["14-yolo", "14b-labelme", "14c-coco"])
def test_pretraining_reads_the_images_alone(field_cases, case):
    dataset = open_dataset(str(field_cases / case), DatasetOptions(masks=False))
    assert len(dataset) == 14 and not dataset.has_masks
