"""Mean and standard deviation of bands against a slow reference."""

from __future__ import annotations

import numpy as np
import pytest

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.normalization import band_statistics
from simclrseg.errors import DataError, ImageError


class Bands(Dataset):
    """Random pictures of five bands and different sizes; some cannot be read."""

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        super().__init__("bands", [str(index) for index in range(count)], bands=list("abcde"), full_scale=10_000)
        self.broken = broken

    def image(self, index: int) -> np.ndarray:
        if index in self.broken:
            raise ImageError(f"{index} is broken")
        rng = np.random.default_rng(index)
        picture = rng.integers(0, 2000 * np.arange(1, 6), (4 + index, 6, 5)).astype(np.uint16)
        picture[:, :, 0] = 700
        return picture


def test_statistics_are_those_of_all_pixels_where_photos_are_equally_large() -> None:
    dataset = Bands(12)
    dataset.image = lambda index: Bands(12).image(5)[:4] + np.uint16(index)  # type: ignore[method-assign]
    pixels = np.concatenate([dataset.image(index).reshape(-1, 5) for index in range(12)]) / 10_000
    found = band_statistics(dataset, range(12), threads=2)
    np.testing.assert_allclose(found.mean, pixels.mean(axis=0))
    np.testing.assert_allclose(found.std, np.maximum(pixels.std(axis=0), 1e-3), rtol=1e-6)


def test_a_large_photo_counts_no_more_than_a_small_one() -> None:
    dataset = Bands(3)
    means = [(dataset.image(index) / 10_000).mean(axis=(0, 1)) for index in range(3)]
    np.testing.assert_allclose(band_statistics(dataset, range(3), threads=1).mean, np.mean(means, axis=0))


def test_only_the_given_photos_are_looked_at() -> None:
    dataset = Bands(9, broken=(0, 1, 2, 3))
    assert band_statistics(dataset, [4, 5], threads=1) == band_statistics(Bands(9), [4, 5], threads=3)
    assert band_statistics(dataset, [3, 4, 5], threads=1) == band_statistics(dataset, [4, 5], threads=1)


def test_a_band_that_is_the_same_everywhere_is_not_divided_by_nothing() -> None:
    assert band_statistics(Bands(4), range(4), threads=1).std[0] == pytest.approx(1e-3)


def test_of_many_photos_a_sample_is_near_all() -> None:
    some, all_of_them = (
        band_statistics(Bands(200), range(200), threads=2, most=60),
        band_statistics(Bands(200), range(200), threads=2),
    )
    assert some != all_of_them
    np.testing.assert_allclose(some.mean, all_of_them.mean, rtol=0.05)
    np.testing.assert_allclose(some.std, all_of_them.std, rtol=0.05)
    assert some == band_statistics(Bands(200), range(200), threads=1, most=60)


def test_photos_none_of_which_can_be_read_are_an_error() -> None:
    with pytest.raises(DataError, match="none of 2 photos can be read"):
        band_statistics(Bands(2, broken=(0, 1)), range(2), threads=1)
