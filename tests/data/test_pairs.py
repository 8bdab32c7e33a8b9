"""Augmentation of a photo and its mask together: nothing moves one against the other."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from simclrseg.data.augment import GRID, PAIR_STRENGTHS, VIEW_COLUMNS, Strengths, View, sample_view
from simclrseg.data.rendering import Square, render_pair
from simclrseg.data.samples import MaskPairs
from simclrseg.images.resizing import resize_image, resize_mask
from simclrseg.targets.knobs import LabelledData
from tests.data.fakes import FakeDataset, photo

STANDARD = PAIR_STRENGTHS["standard"]


def views(n: int, strengths: Strengths = STANDARD) -> list[View]:
    rng = np.random.default_rng(0)
    return [sample_view(rng.random(VIEW_COLUMNS).tolist(), GRID, GRID, strengths) for _ in range(n)]


def rendered(image: np.ndarray, mask: np.ndarray, view: View, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    out, out_mask = np.empty((size, size, 3), np.uint8), np.empty((size, size), np.uint8)
    render_pair(image, mask, view, Square(out, out_mask), (0, 1, 2))
    return out, out_mask


def test_the_knob_offers_what_the_table_holds() -> None:
    assert set(get_args(LabelledData.model_fields["augmentation"].annotation)) == set(PAIR_STRENGTHS)


def test_photo_and_mask_stay_on_each_other() -> None:
    mask = np.zeros((90, 120), np.uint8)
    mask[20:70, 15:60] = 1
    image = np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2)  # a photo of its own mask
    for view in views(50):
        out, out_mask = rendered(image, mask, view._replace(factors=(1.0, 1.0, 1.0, 0.0)))
        assert ((out[:, :, 0] > 127) != (out_mask == 1)).mean() < 0.03  # a rare pixel of the seam


class Watched(np.ndarray):
    """Counts how often some of its bands are written."""

    written = 0

    def __setitem__(self, key, value):
        self.written += 1
        super().__setitem__(key, value)


def test_a_photo_whose_colours_stay_is_not_copied_band_by_band() -> None:
    image, mask, out_mask = (
        np.zeros((40, 40, 12), np.uint16),
        np.zeros((40, 40), np.uint8),
        np.empty((32, 32), np.uint8),
    )
    for name, groups in (("flip", 0), ("standard", 4)):  # the colours, and nine others by four
        strengths = replace(PAIR_STRENGTHS[name], jitter_probability=float(name == "standard"))
        view = sample_view(np.random.default_rng(0).random(VIEW_COLUMNS).tolist(), GRID, GRID, strengths)
        out = np.empty((32, 32, 12), np.uint16).view(Watched)
        render_pair(image, mask, view, Square(out, out_mask), (3, 2, 1))
        assert out.written == groups


@pytest.mark.parametrize("times", [2, 8, 15])
def test_a_coarser_mask_stays_on_its_photo_too_wherever_a_crop_begins(times: int) -> None:
    fine = np.kron(np.random.default_rng(0).integers(0, 2, (120 // times, 240 // times)), np.ones((times, times)))
    fine, image = fine.astype(np.uint8), np.zeros((120, 240, 3), np.uint8)
    for view in views(50):
        expected = rendered(image, fine, view)[1]
        assert (rendered(image, fine[::times, ::times], view)[1] != expected).mean() < 0.005  # on an edge to the bit


def test_the_mask_gets_no_new_values() -> None:
    mask = np.full((90, 120), 7, np.uint8)
    mask[:, 60:] = 255
    for view in views(20):
        assert set(np.unique(rendered(photo(0, height=90, width=120), mask, view)[1])) <= {7, 255}


def test_crops_cover_a_quarter_to_all_of_the_photo_in_its_own_shape() -> None:
    boxes = np.array([view.box for view in views(500)])
    area = boxes[:, 2] * boxes[:, 3] / GRID**2
    ratio = boxes[:, 3] / boxes[:, 2]  # 1 is the photo's own aspect
    assert area.min() > 0.24 and area.max() > 0.9
    assert 0.74 < ratio.min() < 0.85 and 1.2 < ratio.max() < 1.34
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= GRID).all()


def test_color_flips_and_recolours_as_standard_does_and_crops_nothing() -> None:
    whole = views(200, PAIR_STRENGTHS["color"])
    assert {view.box for view in whole} == {(0, 0, GRID, GRID)}
    assert [view._replace(box=(0, 0, GRID, GRID)) for view in views(200)] == whole
    assert {view.flip for view in whole} == {view.recolours for view in whole} == {False, True}


@pytest.mark.parametrize("shape", [(40, 61), (7, 5), (1, 9)])
def test_without_augmentation_a_pair_has_the_geometry_of_evaluation(shape: tuple[int, int]) -> None:
    image, mask = photo(1, height=shape[0], width=shape[1]), np.arange(shape[0] * shape[1], dtype=np.uint8)
    mask = mask.reshape(shape)
    still = sample_view([0.5] * VIEW_COLUMNS, GRID, GRID, PAIR_STRENGTHS["none"])
    out, out_mask = rendered(image, mask, still)
    np.testing.assert_array_equal(out, resize_image(image, (32, 32)))
    np.testing.assert_array_equal(out_mask, resize_mask(mask, (32, 32)))


def test_standard_changes_colours_of_the_photo_and_of_nothing_else() -> None:
    dataset = FakeDataset(40)
    samples = MaskPairs(dataset, range(40), image_size=16, strengths=STANDARD)
    out = {name: np.zeros((40, *shape), dtype) for name, (shape, dtype) in samples.fields.items()}
    samples.fill(0, np.arange(40), out)
    bare = [resize_image(dataset.image(i), (16, 16)).mean() for i in range(40)]
    assert np.std(out["image"].mean((1, 2, 3)) - bare) > 5
    assert set(np.unique(out["mask"])) <= {0, 1, 255}
