"""Pictures of many bands and 16 bits on their way from a file to a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from simclrseg.data.augment import PAIR_STRENGTHS, STRENGTHS, VIEW_COLUMNS, View, sample_view
from simclrseg.data.cache import cached
from simclrseg.data.datasets.dataset import Dataset, FileDataset
from simclrseg.data.datasets.derived import choose_bands, choose_classes, join
from simclrseg.data.framing import cutting_of
from simclrseg.data.loader import Loader, some_rows
from simclrseg.data.randomness import uniform
from simclrseg.data.rendering import render_view
from simclrseg.data.samples import Images, MaskPairs, TwoViews
from simclrseg.errors import DataError
from simclrseg.images.decode import read_scene
from simclrseg.images.framing import Framing
from simclrseg.images.resizing import resize_image
from simclrseg.metadata import Resize
from tests.data.fakes import photo
from tests.images.tiffs import tiff

BANDS = ("aerosol", "blue", "green", "red", *(f"infrared{number}" for number in range(8)))
COLOURS = (3, 2, 1)
SIDE = 32
SCALE = 10_000


def multispectral(seed: int, dtype: type = np.uint16) -> np.ndarray:
    """(H, W, 12) with waves in every band, of which those at COLOURS are a photo's."""
    parts = [photo(12 * seed + k, height=45, width=60) for k in range(4)]
    picture = np.concatenate(parts[1:] + parts[:1], axis=2)
    picture[:, :, COLOURS] = parts[0]
    return picture.astype(dtype) * (1 if dtype == np.uint8 else 30)


def render(picture: np.ndarray, view: View, colours: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    out = np.empty((SIDE, SIDE, picture.shape[2]), picture.dtype)
    render_view(picture, view, out, colours)
    return out


def views(count: int) -> list[View]:
    numbers = uniform(0, 0, np.arange(count), VIEW_COLUMNS).tolist()
    return [sample_view(u, 45, 60, STRENGTHS["paper"]) for u in numbers]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_colours_among_many_bands_change_as_those_of_a_photo(dtype: type) -> None:
    picture = multispectral(0, dtype)
    bare = np.ascontiguousarray(picture[:, :, COLOURS])
    for view in views(40):
        np.testing.assert_array_equal(render(picture, view, COLOURS)[:, :, COLOURS], render(bare, view))


def test_sixteen_bits_are_augmented_as_eight() -> None:
    """The same colours at 128 times the scale; only rounding and where values are cut off differ."""
    image = (photo(1, height=45, width=60) // 3 + 60).astype(np.uint8)
    calm = replace(STRENGTHS["paper"], brightness=0.3, contrast=0.3)
    numbers = uniform(0, 0, np.arange(40), VIEW_COLUMNS).tolist()
    for view in (sample_view(u, 45, 60, calm) for u in numbers):
        fine = render(image.astype(np.uint16) * 128, view) / 128
        assert np.abs(fine - render(image, view)).mean() < 1.5  # two roundings and the hue's, of a byte


def test_hue_saturation_and_grey_leave_other_bands_alone() -> None:
    picture = multispectral(1)
    others = [band for band in range(12) if band not in COLOURS]
    still = View((0, 0, 45, 60), False, (0, 1, 2, 3), (1.0, 1.0, 1.0, 0.0), False, 0.0)
    plain = render(picture, still, COLOURS)
    for change in ({"factors": (1.0, 1.0, 0.3, 0.0)}, {"factors": (1.0, 1.0, 1.0, 0.1)}, {"grayscale": True}):
        changed = render(picture, still._replace(**change), COLOURS)
        np.testing.assert_array_equal(changed[:, :, others], plain[:, :, others])
        assert (changed[:, :, COLOURS] != plain[:, :, COLOURS]).any()


@pytest.mark.parametrize(
    "change",
    [
        {"factors": (1.4, 1.0, 1.0, 0.0)},
        {"factors": (1.0, 0.5, 1.0, 0.0)},
        {"sigma": 1.5},
        {"flip": True},
        {"box": (5, 7, 20, 30)},
    ],
)
def test_brightness_contrast_blur_and_crops_change_every_band(change: dict) -> None:
    picture = multispectral(2)
    still = View((0, 0, 45, 60), False, (0, 1, 2, 3), (1.0, 1.0, 1.0, 0.0), False, 0.0)
    plain, changed = render(picture, still, COLOURS), render(picture, still._replace(**change), COLOURS)
    assert ((plain != changed).mean(axis=(0, 1)) > 0.5).all()
    if "factors" in change and change["factors"][0] != 1:
        np.testing.assert_allclose(changed, plain * 1.4, atol=0.51)


def test_contrast_keeps_the_mean_of_bands_without_a_colour() -> None:
    picture = multispectral(3)
    still = View((0, 0, 45, 60), False, (0, 1, 2, 3), (1.0, 0.5, 1.0, 0.0), False, 0.0)
    plain = render(picture, still._replace(factors=(1.0, 1.0, 1.0, 0.0)))
    changed = render(picture, still, ())
    np.testing.assert_allclose(changed.mean(axis=(0, 1)), plain.mean(axis=(0, 1)), atol=0.6)
    np.testing.assert_allclose(changed.std(axis=(0, 1)), plain.std(axis=(0, 1)) / 2, rtol=0.01)


class Bands(FileDataset):
    """Multispectral TIFFs with a mask beside each."""

    def __init__(self, root: Path) -> None:
        files = sorted(root.glob("*.tif"))
        masks = [file.with_suffix(".png") for file in files]
        self.reads = 0
        super().__init__(
            "bands", root, files, masks=masks, read=self.count, classes=("a", "b"), bands=BANDS, full_scale=SCALE
        )

    def count(self, path: Path) -> np.ndarray:
        self.reads += 1
        return read_scene(path).pixels


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bands:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(4):
        picture = multispectral(number)
        (tmp_path / f"{number}.tif").write_bytes(tiff(picture, deflate=True))
        cv2.imwrite(str(tmp_path / f"{number}.png"), (picture[:, :, 0] > 3000).astype(np.uint8))
    return Bands(tmp_path)


@pytest.mark.parametrize("where", ["ram", "disk", "none"])
def test_16_bits_and_all_bands_stay_through_cache_and_loader(dataset: Bands, where: str) -> None:
    kept = cached(dataset, range(4), where=where)  # type: ignore[arg-type]
    for _ in range(2):
        batch = next(
            Loader(
                Images(kept, range(4), image_size=SIDE), batch_size=4, shuffle=False, drop_last=False, threads=2
            ).epoch(0)
        )
    assert dataset.reads == (8 if where == "none" else 4)
    expected = np.stack([resize_image(multispectral(number), (SIDE, SIDE)) for number in range(4)])
    assert batch["image"].numpy().dtype == np.uint16 and expected.max() > 255
    np.testing.assert_array_equal(batch["image"].numpy(), expected)


@pytest.mark.parametrize("resize", ["squash", "pad", "tile"])
def test_a_single_band_is_cut_as_it_is_among_others(dataset: Bands, resize: Resize) -> None:
    place = BANDS.index("infrared3")

    def rows(some: Dataset) -> dict[str, np.ndarray]:
        cutting = cutting_of(Framing(resize, (SIDE, SIDE), (7,) * len(some.bands)), some)
        strengths = replace(PAIR_STRENGTHS["standard"], jitter_probability=0.0)
        return some_rows(MaskPairs(some, range(4), image_size=SIDE, cutting=cutting, strengths=strengths), 4)

    found, among = rows(choose_bands(dataset, ["infrared3"])), rows(dataset)
    np.testing.assert_array_equal(found["image"][..., 0], among["image"][..., place])
    np.testing.assert_array_equal(found["mask"], among["mask"])


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_a_single_band_is_decoded_decoded_once_and_its_masks_apart(dataset: Bands, where: str) -> None:
    for name in ("green", "red"):  # another band is another picture
        one = choose_bands(dataset, [name])
        kept = cached(one, range(4), where=where, masks=True)  # type: ignore[arg-type]
        before = dataset.reads
        for _ in range(2):
            pictures, masks = [kept.image(number) for number in range(4)], [kept.mask(number) for number in range(4)]
        assert dataset.reads == before + 4
        for number in range(4):
            np.testing.assert_array_equal(pictures[number], multispectral(number)[:, :, [BANDS.index(name)]])
            np.testing.assert_array_equal(masks[number], dataset.mask(number))


def test_every_kind_of_sample_has_the_datasets_bands_and_type(dataset: Bands) -> None:
    two = TwoViews(dataset, range(4), image_size=SIDE, strengths=STRENGTHS["seed"], seed=0)
    pairs = MaskPairs(
        dataset, range(4), image_size=SIDE, strengths=replace(PAIR_STRENGTHS["none"], flip_probability=1.0)
    )
    for samples, shape in ((two, (2, SIDE, SIDE, 12)), (pairs, (SIDE, SIDE, 12))):
        assert samples.fields["image"] == (shape, np.uint16)
        batch = next(Loader(samples, batch_size=4, shuffle=False, drop_last=False, threads=1).epoch(0))
        assert batch["image"].shape == (4, *shape)
    np.testing.assert_array_equal(
        batch["image"][1].numpy(), resize_image(multispectral(1), (SIDE, SIDE))[:, ::-1]
    )  # flipped


def test_sets_with_other_bands_cannot_be_joined(dataset: Bands) -> None:
    class Plain(Dataset):
        pass

    plain = Plain("plain", ["a"])
    with pytest.raises(DataError, match="bands has 12 bands of 16 bits and plain 3 bands of 8 bits"):
        join([plain, dataset])
    joined = join([dataset, dataset])
    assert joined.bands == BANDS and joined.dtype == np.uint16


def test_choosing_classes_of_the_masks_leaves_the_bands_alone(dataset: Bands) -> None:
    chosen = choose_classes(dataset, ["b"])
    assert (chosen.bands, chosen.full_scale, chosen.dtype) == (BANDS, SCALE, np.uint16)
    np.testing.assert_array_equal(chosen.image(1), dataset.image(1))
    assert chosen.content(1) == dataset.content(1)
