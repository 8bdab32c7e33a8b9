import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simclrseg.data.augment import PAIR_STRENGTHS, STRENGTHS, VIEW_COLUMNS, Strengths, sample_view
from simclrseg.data.cutout import Cutout
from simclrseg.data.loader import Loader
from simclrseg.data.randomness import uniform
from simclrseg.data.rendering import render_view
from simclrseg.data.samples import CutViews, Images, MaskPairs, TwoViews
from simclrseg.errors import DataError, ImageError
from simclrseg.images.resizing import resize_image, resize_mask
from tests.data.fakes import FakeDataset

STRENGTH = STRENGTHS["paper"]
FLIP = PAIR_STRENGTHS["flip"]


def filled(samples: Any, positions: list[int], epoch: int = 0) -> dict[str, np.ndarray]:
    out = {name: np.zeros((len(positions), *shape), dtype) for name, (shape, dtype) in samples.fields.items()}
    samples.fill(epoch, np.array(positions), out)
    return out


def two_views(dataset: FakeDataset, indices: Any = range(6), **options: Any) -> TwoViews:
    return TwoViews(dataset, indices, image_size=32, strengths=STRENGTH, seed=0, **options)


def test_a_photo_is_decoded_once_for_its_two_views() -> None:
    dataset = FakeDataset(6)
    filled(two_views(dataset), [0, 1, 5])
    assert dataset.reads == [0, 1, 5]


def test_two_views_of_a_photo_use_different_numbers_of_its_own_row() -> None:
    dataset = FakeDataset(6)
    out = filled(two_views(dataset), [3], epoch=2)
    u = uniform(0, 2, np.array([3]), 2 * VIEW_COLUMNS)[0].tolist()
    image = dataset.image(3)
    for k in range(2):
        view = sample_view(u[k * VIEW_COLUMNS : (k + 1) * VIEW_COLUMNS], *image.shape[:2], STRENGTH)
        expected = np.empty((32, 32, 3), np.uint8)
        render_view(image, view, expected)
        np.testing.assert_array_equal(out["image"][0, k], expected)
    assert (out["image"][0, 0] != out["image"][0, 1]).any()


def test_views_do_not_depend_on_neighbours_or_on_which_subset_is_used() -> None:
    dataset = FakeDataset(6)
    whole = filled(two_views(dataset), [0, 1, 2, 3, 4, 5])
    alone = filled(two_views(dataset), [4])
    of_subset = filled(two_views(dataset, [5, 4]), [1])
    np.testing.assert_array_equal(alone["image"][0], whole["image"][4])
    np.testing.assert_array_equal(of_subset["image"][0], whole["image"][4])
    assert of_subset["index"].tolist() == [4]


def test_views_change_with_the_epoch_and_with_the_seed() -> None:
    dataset = FakeDataset(3)
    first = filled(two_views(dataset, range(3)), [0, 1, 2])["image"]
    other_epoch = filled(two_views(dataset, range(3)), [0, 1, 2], epoch=1)["image"]
    other_seed = TwoViews(dataset, range(3), image_size=32, strengths=STRENGTH, seed=1)
    assert (first != other_epoch).any(axis=(1, 2, 3, 4)).all()
    assert (first != filled(other_seed, [0, 1, 2])["image"]).any(axis=(1, 2, 3, 4)).all()


def test_images_are_changed_as_the_strengths_say() -> None:
    still, turned = (
        filled(Images(FakeDataset(20), range(20), image_size=16, strengths=strengths), list(range(20)))["image"]
        for strengths in (PAIR_STRENGTHS["none"], FLIP)
    )
    mirrored = np.array([np.array_equal(one, other[:, ::-1]) for one, other in zip(turned, still, strict=True)])
    np.testing.assert_array_equal(turned[~mirrored], still[~mirrored])
    assert 4 < mirrored.sum() < 16


def test_an_unreadable_photo_is_replaced_by_the_next_readable_one(caplog: pytest.LogCaptureFixture) -> None:
    samples = Images(FakeDataset(6, broken=(1, 2)), range(6), image_size=16)
    with caplog.at_level(logging.WARNING):
        out = filled(samples, [0, 1, 2, 3])
        filled(samples, [1, 2])
    assert out["index"].tolist() == [0, 3, 3, 3]
    np.testing.assert_array_equal(out["image"][1], out["image"][3])
    assert samples.skipped == [f"photos/00{i}.png: cannot be decoded" for i in (1, 2)]
    assert len(caplog.records) == 2  # each is named once, not once an epoch


def test_the_next_photo_of_the_last_one_is_the_first() -> None:
    samples = Images(FakeDataset(4, broken=(3,)), range(4), image_size=16)
    assert filled(samples, [3])["index"].tolist() == [0]


def test_a_replacement_is_augmented_unlike_its_own_turn() -> None:
    samples = two_views(FakeDataset(6, broken=(1,)))
    out = filled(samples, [1, 2])
    assert out["index"].tolist() == [2, 2]
    assert (out["image"][0] != out["image"][1]).any()


def test_strict_stops_at_an_unreadable_photo() -> None:
    samples = two_views(FakeDataset(6, broken=(1,)), strict=True)
    with pytest.raises(ImageError, match=r"photos/001\.png"):
        filled(samples, [0, 1])


def test_a_set_without_any_readable_photo_is_an_error_that_says_why() -> None:
    samples = Images(FakeDataset(3, broken=(0, 1, 2)), range(3), image_size=16)
    with pytest.raises(DataError, match=r"none of 3 photos can be read.*photos/000\.png: cannot be decoded"):
        filled(samples, [1])


def test_mask_pairs_are_squashed_and_untouched_without_flip() -> None:
    dataset = FakeDataset(5)
    out = filled(MaskPairs(dataset, range(5), image_size=24), [0, 3])
    for row, i in enumerate((0, 3)):
        np.testing.assert_array_equal(out["image"][row], resize_image(dataset.image(i), (24, 24)))
        np.testing.assert_array_equal(out["mask"][row], resize_mask(dataset.mask(i), (24, 24)))
    assert set(np.unique(out["mask"])) == {0, 1, 255}


def test_photo_and_mask_are_flipped_together_with_the_given_probability() -> None:
    n = 200
    dataset = FakeDataset(n)
    flipping = MaskPairs(dataset, range(n), image_size=8, strengths=replace(FLIP, flip_probability=0.3), seed=5)
    bare = filled(MaskPairs(dataset, range(n), image_size=8), list(range(n)))
    out = filled(flipping, list(range(n)), epoch=1)
    flipped = (out["image"] != bare["image"]).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(out["image"][flipped], bare["image"][flipped, :, ::-1])
    np.testing.assert_array_equal(out["mask"][flipped], bare["mask"][flipped, :, ::-1])
    np.testing.assert_array_equal(out["mask"][~flipped], bare["mask"][~flipped])
    assert abs(flipped.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)


def test_flips_change_from_epoch_to_epoch() -> None:
    samples = MaskPairs(FakeDataset(32), range(32), image_size=8, strengths=FLIP)
    first, second = (filled(samples, list(range(32)), epoch)["image"] for epoch in (0, 1))
    assert 4 < (first != second).any(axis=(1, 2, 3)).sum() < 28


def test_a_mask_that_is_turned_against_its_photo_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = FakeDataset(3)
    monkeypatch.setattr(dataset, "mask", lambda i: np.zeros(dataset.image(i).shape[1::-1], np.uint8))
    with pytest.raises(DataError, match=r"photos/001\.png: photo and mask are 65x43 and 43x65 pixels"):
        filled(MaskPairs(dataset, range(3), image_size=8), [1])


def test_photos_carry_labels_where_the_dataset_has_them() -> None:
    with_labels = filled(Images(FakeDataset(5), [4, 1], image_size=8), [0, 1])
    assert with_labels["label"].tolist() == [1, 1]
    assert with_labels["index"].tolist() == [4, 1]
    assert "label" not in Images(FakeDataset(5, labels=False), [4, 1], image_size=8).fields


def cut_views(dataset: FakeDataset, indices: Any, *, seed: int = 0, strengths: Strengths = STRENGTHS["whole"]) -> Any:
    return CutViews(dataset, indices, image_size=32, strengths=strengths, cutout=Cutout(), seed=seed)


def test_a_cut_view_is_the_photo_under_its_own_augmentation_and_the_cut_lies_beside_it() -> None:
    dataset = FakeDataset(6)
    out = filled(cut_views(dataset, range(6)), [4], epoch=3)
    u = uniform(0, 3, np.array([4]), VIEW_COLUMNS)[0].tolist()
    image, expected = dataset.image(4), np.empty((32, 32, 3), np.uint8)
    view = sample_view(u, *image.shape[:2], STRENGTHS["whole"])
    assert view.box == (0, 0, *image.shape[:2])
    render_view(image, view, expected)
    np.testing.assert_array_equal(out["image"][0], expected)
    assert out["cut"].dtype == np.bool_
    assert 0.3 < out["cut"].mean() < 0.7


def test_cuts_depend_on_seed_epoch_and_photo_alone() -> None:
    dataset = FakeDataset(6)
    whole = filled(cut_views(dataset, range(6)), [0, 1, 2, 3, 4, 5])["cut"]
    np.testing.assert_array_equal(filled(cut_views(dataset, [5, 4]), [1])["cut"][0], whole[4])
    for other in (
        filled(cut_views(dataset, range(6)), [4], epoch=1),
        filled(cut_views(dataset, range(6), seed=1), [4]),
        filled(cut_views(dataset, range(6)), [3]),
    ):
        assert (other["cut"][0] != whole[4]).any()


@pytest.mark.parametrize("threads", [2, 5])
def test_cut_views_are_the_same_for_any_number_of_threads(threads: int) -> None:
    def batches(threads: int) -> list[dict[str, Any]]:
        samples = cut_views(FakeDataset(30), range(30))
        return list(Loader(samples, batch_size=8, shuffle=True, drop_last=True, threads=threads).epoch(2))

    for one, many in zip(batches(1), batches(threads), strict=True):
        assert all((one[name] == many[name]).all() for name in ("index", "image", "cut"))


def test_a_bare_cut_view_changes_nothing_but_the_size() -> None:
    dataset = FakeDataset(3)
    out = filled(cut_views(dataset, range(3), strengths=PAIR_STRENGTHS["none"]), [2])["image"][0]
    distance = np.abs(out.astype(int) - resize_image(dataset.image(2), (32, 32)))
    assert distance.mean() < 1.5  # both smooth before they shrink, not with the same filter
