"""Samples that keep the aspect or the scale of their image: where they lie, what is padding, and how many there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from simclrseg.data.augment import GRID, PAIR_STRENGTHS, VIEW_COLUMNS, sample_view
from simclrseg.data.cache import Where, cached
from simclrseg.data.datasets.dataset import Dataset, DatasetOptions, FileDataset
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.framing import CROPS, Cropping, Cutting, Padding, Squashing, crops_of
from simclrseg.data.loader import Loader
from simclrseg.data.rendering import Square
from simclrseg.data.samples import MaskPairs, WeakAndStrong
from simclrseg.errors import DataError
from simclrseg.images.framing import Framing
from simclrseg.images.resizing import resize_mask
from tests.data.fakes import photo
from tests.folders import write_pairs

FILL = (1, 2, 3)
SIDE = 32
STILL, STANDARD = PAIR_STRENGTHS["none"], PAIR_STRENGTHS["standard"]
Make = Callable[[], Padding | Cropping]


class Given(Dataset):
    """Images and masks as they are given."""

    def __init__(self, *pairs: tuple[np.ndarray, np.ndarray], classes: int = 2) -> None:
        super().__init__("given", [str(i) for i in range(len(pairs))], classes=[f"c{i}" for i in range(classes)])
        self.pairs = pairs

    def image(self, index: int) -> np.ndarray:
        return self.pairs[index][0]

    def mask(self, index: int) -> np.ndarray:
        return self.pairs[index][1]


def of_its_mask(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A photo that shows its own mask: 240 in the foreground, 100 elsewhere."""
    return np.repeat(np.where(mask == 1, 240, 100).astype(np.uint8)[..., None], 3, axis=2), mask


def places(height: int, width: int) -> np.ndarray:
    """A photo whose pixels say where they are: y, x and 0, below 256 each."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.zeros_like(y)], axis=2).astype(np.uint8)


def drawn(cutting: Cutting, dataset: Dataset, index: int, u: np.ndarray, strengths=STANDARD, side=SIDE):
    out, mask = np.empty((side, side, 3), np.uint8), np.empty((side, side), np.uint8)
    window = cutting.write(dataset, index, u, strengths, Square(out, mask))
    return out, mask, window


@pytest.mark.parametrize("shape", [(40, 60), (61, 40), (7, 90), (50, 50), (90, 5)])
def test_a_padded_sample_without_augmentation_is_what_evaluation_sees(shape: tuple[int, int]) -> None:
    image = photo(0, height=shape[0], width=shape[1])
    mask = (image[:, :, 1] > 120).astype(np.uint8)
    framing = Framing("pad", (SIDE, SIDE), FILL)
    for masks in (mask, mask[::2, ::2]):  # a coarser one too
        if min(masks.shape) * 10 < max(masks.shape):  # whose aspect is another by rounding
            continue
        out, truth, _ = drawn(Padding(FILL), Given((image, masks)), 0, np.full(VIEW_COLUMNS, 0.5), STILL)
        assert np.array_equal(out, framing.image(image))
        assert np.array_equal(truth, framing.mask(masks, image.shape))


@pytest.mark.parametrize("shape", [(90, 120), (130, 60), (40, 160)])
def test_a_crop_of_a_padded_photo_is_a_crop_of_its_canvas(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, np.uint8)
    mask[shape[0] // 4 : shape[0] // 2, shape[1] // 3 : 2 * shape[1] // 3] = 1
    image, _ = of_its_mask(mask)
    longer = max(shape)
    canvas = np.full((longer, longer), 255, np.uint8)  # the slow way
    canvas[: shape[0], : shape[1]] = mask
    rng = np.random.default_rng(0)
    still = PAIR_STRENGTHS["standard"].__class__(**{**vars(STANDARD), "jitter_probability": 0.0})
    content = tuple(round(GRID * side / longer) for side in shape)
    shown_of_all, other = 0, 0
    for _ in range(60):
        u = rng.random(VIEW_COLUMNS)
        out, truth, window = drawn(Padding(FILL), Given((image, mask)), 0, u, still)
        view = sample_view(u.tolist(), GRID, GRID, still, content=content)
        top, left, height, width = (side * longer // GRID for side in view.box)
        expected = resize_mask(canvas[top : top + height, left : left + width], (SIDE, SIDE))
        expected = expected[:, ::-1] if view.flip else expected
        assert (expected != truth).mean() < 0.05  # a rare pixel of the seams
        shown = np.zeros_like(truth, bool)
        shown[window[0] : window[2], window[1] : window[3]] = True
        assert shown.any() and np.array_equal(truth == 255, ~shown)
        assert (out[~shown] == FILL).all()
        other += ((out[..., 0] > 170) != (truth == 1))[shown].sum()
        shown_of_all += shown.sum()
    assert other < 0.03 * shown_of_all  # a single crop may show a few pixels alone


def test_a_crop_of_a_padded_photo_has_its_part_of_the_coarsest_mask() -> None:
    coarse = np.array([[0, 1], [1, 0]], np.uint8)
    image, _ = of_its_mask(resize_mask(coarse, (160, 160)))
    small = STANDARD.__class__(**{**vars(STANDARD), "jitter_probability": 0.0, "crop_scale": (0.05, 0.1)})
    for u in np.random.default_rng(0).random((40, VIEW_COLUMNS)):
        out, truth, _ = drawn(Padding(FILL), Given((image, coarse)), 0, u, small)
        assert {*np.unique(out[..., 0] > 170).tolist()} <= {*np.unique(truth).tolist()} <= {0, 1}


@pytest.mark.parametrize("make", [Squashing, lambda: Padding(FILL), lambda: Cropping(FILL, 2)])
def test_a_coarser_mask_is_moved_to_no_side_of_its_photo(make: Callable[[], Cutting]) -> None:
    coarse = np.zeros((16, 24), np.uint8)
    coarse[:9, :11] = 1
    image, _ = of_its_mask(resize_mask(coarse, (160, 240)))
    still = STANDARD.__class__(**{**vars(STANDARD), "jitter_probability": 0.0, "flip_probability": 0.0})
    cutting, moved = make(), []
    for u in np.random.default_rng(0).random((200, cutting.columns)):
        out, truth, window = drawn(cutting, Given((image, coarse)), 0, u, still, 64)
        top, left, bottom, right = window
        seen, said = ((out[..., 0] > 170)[top:bottom, left:right], (truth == 1)[top:bottom, left:right])
        assert abs(seen.any(0).sum() - said.any(0).sum()) <= 1 and abs(seen.any(1).sum() - said.any(1).sum()) <= 1
        moved.append(float(said.sum()) - float(seen.sum()))
    assert abs(np.mean(moved)) < 0.004 * 64**2


def test_colours_of_a_photo_change_whatever_is_beside_it() -> None:
    image = photo(3, height=30, width=60)
    mask = np.zeros((30, 60), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(20):
        u = rng.random(VIEW_COLUMNS)
        one, _, window = drawn(Padding((0, 0, 0)), Given((image, mask)), 0, u)
        other, _, _ = drawn(Padding((255, 0, 90)), Given((image, mask)), 0, u)
        top, left, bottom, right = window
        assert np.array_equal(one[top:bottom, left:right], other[top:bottom, left:right])


def test_crops_that_keep_the_scale_are_windows_of_the_image_to_the_pixel() -> None:
    image = places(150, 200)
    mask = (np.add.outer(np.arange(150), np.arange(200)) % 2).astype(np.uint8)
    cutting, seen = Cropping(FILL, 2), set()
    for u in np.random.default_rng(0).random((60, cutting.columns)):
        out, truth, window = drawn(cutting, Given((image, mask)), 0, u, STILL)
        top, left = out[0, 0, :2].tolist()
        assert window == (0, 0, SIDE, SIDE)
        assert np.array_equal(out, image[top : top + SIDE, left : left + SIDE])
        assert np.array_equal(truth, mask[top : top + SIDE, left : left + SIDE])
        seen.add((top, left))
    assert len(seen) > 50


def test_crops_change_the_scale_on_both_sides_of_the_image_s_own() -> None:
    mask = np.zeros((300, 300), np.uint8)
    mask[::2] = 1
    cutting = Cropping(FILL, 2)
    spans = []
    for u in np.random.default_rng(0).random((200, cutting.columns)):
        u[VIEW_COLUMNS - 9] = 1.0  # which is of no use to where they lie
        image = np.repeat(np.linspace(0, 255, 300).astype(np.uint8)[:, None, None], 300, axis=1).repeat(3, axis=2)
        still = PAIR_STRENGTHS["standard"].__class__(**{**vars(STANDARD), "jitter_probability": 0.0})
        out, _, _ = drawn(cutting, Given((image, mask)), 0, u, still)
        spans.append((float(out[-1, 0, 0]) - float(out[0, 0, 0])) / 255 * 299 / (SIDE - 1))
    assert 0.5 < np.min(spans) < 0.8 and 1.3 < np.max(spans) < 1.9  # sqrt(2 * 4/3) at most
    assert np.median(spans) == pytest.approx(1, abs=0.12)


def test_half_of_the_crops_lie_around_foreground_each_class_as_often_as_another() -> None:
    mask = np.zeros((400, 500), np.uint8)
    mask[200, 300] = 2  # a single pixel
    mask[:60, :100] = 1
    mask[390:] = 255
    cutting = Cropping(FILL, 3)
    dataset = Given((places(400, 500), mask), classes=3)
    numbers = np.random.default_rng(0).random((600, cutting.columns))
    truths = [drawn(cutting, dataset, 0, u, STILL)[1] for u in numbers]
    rare = np.array([(truth == 2).any() for truth in truths])
    assert rare.mean() == pytest.approx(0.25, abs=0.05)
    where = [np.argwhere(truth == 2)[0] for truth in truths if (truth == 2).any()]
    assert np.ptp(where, axis=0).min() > SIDE - 6  # anywhere in the crop
    around = np.array([(truth == 1).any() for truth in truths]) | rare
    assert 0.5 < around.mean() < 0.6
    background = Given((places(400, 500), np.zeros((400, 500), np.uint8)))
    assert (drawn(Cropping(FILL, 2), background, 0, numbers[0], STILL)[1] == 0).all()


def test_an_image_smaller_than_a_crop_is_padded() -> None:
    image, mask = photo(4, height=20, width=90), np.ones((20, 90), np.uint8)
    for u in np.random.default_rng(0).random((40, VIEW_COLUMNS + 5)):
        out, truth, (top, left, bottom, right) = drawn(Cropping(FILL, 2), Given((image, mask)), 0, u, STILL)
        assert (top, left, bottom, right) == (0, 0, 20, SIDE)
        assert (out[20:] == FILL).all() and (truth[20:] == 255).all() and (truth[:20] == 1).all()
        out, truth, (top, left, bottom, right) = drawn(Cropping(FILL, 2), Given((image, mask)), 0, u)
        shown = np.zeros((SIDE, SIDE), bool)
        shown[top:bottom, left:right] = True
        assert np.array_equal(truth == 255, ~shown) and (out[~shown] == FILL).all()


def test_a_crop_of_a_coarser_mask_is_that_of_the_mask_at_the_image_s_size() -> None:
    image = places(160, 200)
    coarse = np.random.default_rng(0).integers(0, 2, (80, 100), np.uint8)
    fine = resize_mask(coarse, (160, 200))
    for u in np.random.default_rng(1).random((40, VIEW_COLUMNS + 5)):
        out, truth, _ = drawn(Cropping(FILL, 2), Given((image, coarse)), 0, u, STILL)
        top, left = out[0, 0, :2].tolist()
        assert np.array_equal(truth, fine[top : top + SIDE, left : left + SIDE])


def test_a_mask_that_is_turned_against_its_image_is_refused() -> None:
    given = Given((places(100, 200), np.ones((200, 100), np.uint8)))
    with pytest.raises(DataError, match="is one of them turned"):
        drawn(Cropping(FILL, 2), given, 0, np.full(VIEW_COLUMNS + 5, 0.1))
    with pytest.raises(DataError, match="is one of them turned"):
        drawn(Padding(FILL), given, 0, np.full(VIEW_COLUMNS, 0.1))


class Sized(Given):
    """Images of which there is nothing but a size."""

    def __init__(self, *shapes: tuple[int, int]) -> None:
        super().__init__(*[(np.empty(0), np.empty(0))] * len(shapes))
        self.shapes = shapes

    def image_shape(self, index: int) -> tuple[int, int]:
        return self.shapes[index]


def test_an_image_comes_as_often_as_tiles_cover_it_if_that_is_not_too_much() -> None:
    assert crops_of(Sized((256, 256), (257, 256), (600, 900), (10, 10)), range(4), 256) == [1, 2, 12, 1]
    scenes = crops_of(Sized(*[(10_000, 10_000)] * 3, (300, 300)), range(4), 256)
    assert scenes == [681, 681, 681, 4] and sum(scenes) <= CROPS
    assert crops_of(Sized(*[(600, 900)] * 3000), range(3000), 256) == [1] * 3000
    assert crops_of(Sized((600, 900)), [], 256) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photo of two bands of rows in a file, two small ones, and their masks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pairs = {}
    for number, shape in enumerate([(500, 800), (60, 90), (40, 50)]):
        image = cv2.resize(photo(number, height=20, width=30), shape[::-1])
        mask = np.zeros(shape, np.uint8)
        mask[shape[0] // 2 :, : shape[1] // 3] = 255
        pairs[str(number)] = image, mask
    return write_pairs(tmp_path / "large", pairs)


class Counting(FileDataset):
    """A dataset that counts what it decodes."""

    def image(self, index: int) -> np.ndarray:
        self.__dict__.setdefault("reads", []).append(index)
        return super().image(index)

    def mask(self, index: int) -> np.ndarray:
        self.__dict__.setdefault("reads", []).append(f"mask {index}")
        return super().mask(index)


def opened(folder: Path) -> Dataset:
    dataset = open_dataset(str(folder), DatasetOptions())
    dataset.__class__ = Counting
    dataset.__dict__["reads"] = []
    return dataset


def crops(dataset: Dataset, *, threads: int, unlabelled: bool = False, seed: int = 0) -> list[np.ndarray]:
    kind = WeakAndStrong if unlabelled else MaskPairs
    samples = kind(
        dataset, range(3), cutting=Cropping(FILL, 2), crops=[5, 3, 1], image_size=SIDE, strengths=STANDARD, seed=seed
    )
    loader = Loader(samples, batch_size=4, shuffle=True, drop_last=False, threads=threads)
    assert len(samples) == 9
    return [batch[name].numpy() for epoch in range(2) for batch in loader.epoch(epoch) for name in sorted(batch)]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


@pytest.mark.parametrize("where", ["ram", "disk"])
def test_crops_are_the_same_from_any_store_and_thread_and_a_file_is_decoded_once(folder: Path, where: Where) -> None:
    plain = crops(opened(folder), threads=1)
    assert not same(plain, crops(opened(folder), threads=1, seed=1))
    for threads in (1, 4):
        dataset = opened(folder)
        found = crops(cached(dataset, range(3), where=where, masks=True, cropped=True), threads=threads)
        assert same(found, plain)
        reads = dataset.__dict__["reads"]
        assert len(reads) == len(set(reads)) <= 6  # of the disk's, the second time there is nothing to decode
    again = cached(opened(folder), range(3), where=where, masks=True, cropped=True)
    assert same(crops(again, threads=2, unlabelled=True), crops(opened(folder), threads=1, unlabelled=True))


def test_the_crops_of_an_image_in_an_epoch_differ(folder: Path) -> None:
    samples = MaskPairs(opened(folder), range(3), cutting=Cropping(FILL, 2), crops=[2, 6, 1], image_size=SIDE)
    assert np.bincount(samples.indices).tolist() == [2, 6, 1]
    batch = next(Loader(samples, batch_size=9, shuffle=False, drop_last=False, threads=1).epoch(0))
    of_one = batch["image"][batch["index"] == 1].flatten(1)
    assert len(of_one.unique(dim=0)) == 6


def test_rows_of_a_file_are_read_and_checked_alone(folder: Path) -> None:
    dataset = opened(folder)
    store = cached(dataset, range(3), where="disk", masks=True)
    whole = store.image(0)
    decoded = len(dataset.__dict__["reads"])
    assert np.array_equal(store.image_rows(0, 460, 500), whole[460:])
    assert store.image_shape(0) == (500, 800) and np.array_equal(store.mask_rows(0, 240, 260), store.mask(0)[240:260])
    (file,) = (folder.parent / "cache" / "simclrseg" / "decoded").glob("large-photos-*")
    with file.open("r+b") as stream:  # a bit of the first picture's first rows
        content = stream.read()
        stream.seek(content.index(whole[:2].tobytes()) + 7)
        stream.write(bytes([whole.reshape(-1)[7] ^ 1]))
    decoded = len(dataset.__dict__["reads"])
    assert np.array_equal(store.image_rows(0, 460, 500), whole[460:]) and len(dataset.__dict__["reads"]) == decoded
    assert np.array_equal(store.image_rows(0, 0, 5), whole[:5]) and len(dataset.__dict__["reads"]) == decoded + 1
    assert np.array_equal(store.image(0), whole) and len(dataset.__dict__["reads"]) == decoded + 1  # it is mended


def test_an_unreadable_image_is_named_once_however_often_it_would_come(folder: Path, caplog) -> None:
    (folder / "images" / "1.png").write_bytes((folder / "images" / "1.png").read_bytes()[:5000])
    samples = MaskPairs(opened(folder), range(3), cutting=Cropping(FILL, 2), crops=[3, 6, 1], image_size=SIDE)
    batch = next(Loader(samples, batch_size=10, shuffle=False, drop_last=False, threads=2).epoch(0))
    assert len(samples.skipped) == 1 and len(caplog.records) == 1
    assert sorted(set(batch["index"].tolist())) == [0, 2] and len(batch["index"]) == 10


def test_strong_views_leave_padding_as_it_is() -> None:
    given = Given(*[(photo(i, height=20 + 9 * i, width=90), np.zeros((20 + 9 * i, 90), np.uint8)) for i in range(4)])
    for cutting in (Padding(FILL), Cropping(FILL, 2)):
        samples = WeakAndStrong(given, range(4), cutting=cutting, image_size=SIDE, strengths=STANDARD)
        batch = next(Loader(samples, batch_size=4, shuffle=False, drop_last=False, threads=1).epoch(0))
        beside = ~batch["shown"].numpy()
        assert beside.any() and not beside.all(axis=(1, 2)).any()
        for view in (batch["image"], batch["strong"][:, 0], batch["strong"][:, 1]):
            assert (view.numpy()[beside] == FILL).all()
        assert not np.array_equal(batch["strong"][:, 0].numpy(), batch["image"].numpy())


def test_a_jpeg_that_is_turned_by_its_exif_is_cut_as_it_is_shown(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "odd_images" / "Landscape_6.jpg"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.jpg").write_bytes(source.read_bytes())
    upright = open_dataset(str(tmp_path / "images"), DatasetOptions()).image(0)
    (tmp_path / "masks").mkdir()
    mask = np.zeros(upright.shape[:2], np.uint8)
    mask[: len(mask) // 2] = 255
    cv2.imwrite(str(tmp_path / "masks" / "one.png"), mask)
    dataset = open_dataset(str(tmp_path), DatasetOptions())
    cutting = Cropping(FILL, 2)
    for u in np.random.default_rng(0).random((2, cutting.columns)):
        out, truth, _ = drawn(cutting, dataset, 0, u, STILL, side=64)
        found = cv2.matchTemplate(upright, out, cv2.TM_SQDIFF)
        top, left = np.unravel_index(found.argmin(), found.shape)
        assert np.array_equal(upright[top : top + 64, left : left + 64], out)
        assert np.array_equal(truth, dataset.mask(0)[top : top + 64, left : left + 64])
