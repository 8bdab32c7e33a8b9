"""Padding and tiles in training and scoring: nothing that is said of padding counts, and tiles are the whole image."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simclrseg.data.augment import PAIR_STRENGTHS
from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.framing import Cropping, Cutting, Padding
from simclrseg.data.loader import Loader, WithUnlabelled
from simclrseg.data.mask_statistics import object_sizes
from simclrseg.data.samples import MaskPairs, Numbers, WeakAndStrong
from simclrseg.engine.average import WeightAverage
from simclrseg.engine.gradients import Passes, accumulate_gradient
from simclrseg.engine.task import Batch
from simclrseg.errors import DataError, ImageError
from simclrseg.images.framing import Framing
from simclrseg.inference.tiling import predict_tiles
from simclrseg.losses.segmentation import bce, ce, dice, focal, jaccard, total
from simclrseg.metadata import ModelMetadata
from simclrseg.scores import pixels
from simclrseg.scores.pixels import Pixels
from simclrseg.targets.base import Scoring
from simclrseg.targets.segment.consistency import Consistency
from simclrseg.targets.segment.learner import Segmentation, TiledSegmentation
from simclrseg.targets.segment.scores import score
from tests.data.fakes import photo

SIDE = 32
CPU = Passes(torch.device("cpu"), "fp32", seed=0)
SHAPES = [(40, 90), (70, 30), (20, 25), (33, 100), (64, 64), (90, 41)]


class Photos(Dataset):
    """Photos of several shapes; the mask is 1, or 1 and 2, where they are bright, and its first row is ignored."""

    def __init__(self, classes: int = 2, broken: int | None = None) -> None:
        super().__init__("photos", [f"{i}.png" for i in range(len(SHAPES))], classes=[f"c{i}" for i in range(classes)])
        self.broken = broken

    def image(self, index: int) -> np.ndarray:
        if index == self.broken:
            raise ImageError(f"{index}.png: broken")
        height, width = SHAPES[index]
        return photo(index, height=height, width=width)

    def mask(self, index: int) -> np.ndarray:
        mask = (self.image(index)[:, :, 0] / 256 * len(self.classes)).astype(np.uint8)
        mask[0] = 255
        return mask


def described(resize: str, classes: int = 2) -> ModelMetadata:
    names, threshold = tuple(f"c{i}" for i in range(classes)), 0.5 if classes == 2 else None
    common = {"task": "segmentation", "encoder": "cnn", "classes": names, "threshold": threshold}
    return ModelMetadata(**common, image_size=SIDE, resize=resize)


def cutting(resize: str, classes: int = 2) -> Cutting:
    fill = Framing.of(described(resize)).fill
    return Padding(fill) if resize == "pad" else Cropping(fill, classes)


def pointwise(classes: int = 2) -> nn.Module:
    """A network in which no pixel sees another: what changes beside it cannot reach a pixel that counts."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 1 if classes == 2 else classes, 1))


def one_batch(resize: str, classes: int = 2) -> Batch:
    strengths = PAIR_STRENGTHS["standard"]
    options = {"cutting": cutting(resize, classes), "image_size": SIDE, "strengths": strengths}
    pairs = MaskPairs(Photos(classes), range(6), **options)
    others = WeakAndStrong(Photos(classes), range(6), **options)
    loader = WithUnlabelled(
        pairs, batch_size=6, shuffle=True, drop_last=False, threads=1, unlabelled=others, neighbours=2
    )
    return next(loader.epoch(0))


def soiled(batch: Batch) -> Batch:
    """The same with noise where there is padding."""
    noise = torch.Generator().manual_seed(3)

    def soil(images: Tensor, beside: Tensor) -> Tensor:
        other = torch.randint(0, 256, images.shape, generator=noise, dtype=torch.uint8)
        return torch.where(beside[..., None], other, images)

    hidden = ~batch["unlabelled_shown"]
    # every first row of a mask is ignored too, and only noise there may change nothing but by what lies around it
    padding = batch["mask"] == 255
    assert hidden.any() and padding.any()
    return batch | {
        "image": soil(batch["image"], padding),
        "unlabelled_image": soil(batch["unlabelled_image"], hidden),
        "unlabelled_strong": soil(batch["unlabelled_strong"], hidden[:, None].expand(-1, 2, -1, -1)),
    }


def gradient(task: Segmentation | Consistency, batch: Batch, micro_batch: int | None = None) -> Tensor:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    accumulate_gradient(task, batch, step=0, micro_batch=micro_batch, passes=CPU, scaler=scaler)
    found = torch.cat([parameter.grad.flatten() for parameter in task.model.parameters() if parameter.grad is not None])
    task.model.zero_grad()
    return found


def consistency(resize: str, classes: int) -> Consistency:
    learner = Segmentation(pointwise(classes), described(resize, classes), bce if classes == 2 else ce)
    task = Consistency(learner, threshold=0.51 if classes == 2 else 0.36)
    task.average = WeightAverage(task.model, 0.5)
    task.before_step(0)
    return task


@pytest.mark.parametrize("resize", ["pad", "tile"])
@pytest.mark.parametrize("loss", [total([bce, dice], (0.7, 1.3)), focal, jaccard])
def test_what_lies_in_the_padding_changes_neither_loss_nor_gradient(resize: str, loss: Callable) -> None:
    task, batch = Segmentation(pointwise(), described(resize), loss), one_batch(resize)
    assert task.training_loss(batch)[0].item() == pytest.approx(task.training_loss(soiled(batch))[0].item(), rel=1e-6)
    torch.testing.assert_close(gradient(task, batch), gradient(task, soiled(batch)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("resize", ["pad", "tile"])
@pytest.mark.parametrize("classes", [2, 3])
def test_what_lies_in_the_padding_changes_nothing_in_unlabelled_photos(resize: str, classes: int) -> None:
    task, batch = consistency(resize, classes), one_batch(resize, classes)
    (loss, logs), (other, others) = task.training_loss(batch), task.training_loss(soiled(batch))
    assert 0 < float(logs["confident"]) < 1 and float(logs["consistency"]) > 0
    assert loss.item() == pytest.approx(other.item(), rel=1e-6)
    for name in ("confident", "consistency", "supervised"):
        assert float(logs[name]) == pytest.approx(float(others[name]), rel=1e-6)
    torch.testing.assert_close(gradient(task, batch), gradient(task, soiled(batch)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("resize", ["pad", "tile"])
def test_the_gradient_of_micro_batches_is_that_of_the_whole_batch(resize: str) -> None:
    task, batch = consistency(resize, 2), one_batch(resize)
    torch.testing.assert_close(gradient(task, batch, 2), gradient(task, batch), rtol=1e-5, atol=1e-7)


def test_the_share_of_confident_pixels_and_their_loss_are_of_those_that_are_shown() -> None:
    task, batch = consistency("pad", 2), one_batch("pad")
    batch["unlabelled_pasted"].zero_()
    shown = batch["unlabelled_shown"]
    p = task.learner.probabilities(batch["unlabelled_image"])
    sure = (torch.maximum(p, 1 - p) >= task.threshold) & shown
    _, logs = task.training_loss(batch)
    assert float(logs["confident"]) == pytest.approx((sure.sum((1, 2)) / shown.sum((1, 2))).mean().item(), rel=1e-6)
    expected = []
    for view in range(2):
        seen = task.learner.probabilities(batch["unlabelled_strong"][:, view])
        losses = -torch.where(p > 0.5, seen, 1 - seen).log()
        expected += [losses[i][sure[i]].sum().item() / shown[i].sum().item() for i in range(6)]
    assert float(logs["consistency"]) == pytest.approx(np.mean(expected), rel=1e-4)


def brightness(images: np.ndarray) -> np.ndarray:
    return images[..., 0].astype(np.float32) / 255


def test_scores_do_not_depend_on_what_is_said_of_padding() -> None:
    metadata, dataset = described("pad"), Photos()
    framing = Framing.of(metadata)

    def soiling(images: np.ndarray) -> np.ndarray:
        found = brightness(images)
        for one, image in zip(found, images, strict=True):
            one[(image == framing.fill).all(axis=2)] = 1.0
        return found

    clean, other = (score(one, dataset, range(6), metadata, Scoring(1, 4)) for one in (brightness, soiling))
    for resolution, shapes in (("training", [framing.inner(shape) for shape in SHAPES]), ("original", SHAPES)):
        here, there = clean.pixels[resolution], other.pixels[resolution]
        assert np.array_equal(here.confusion, there.confusion) and np.array_equal(here.boundary, there.boundary)
        ignored = [(dataset.mask(i) == 255).sum() for i in range(6)]
        if resolution == "original":
            sizes = [height * width - none for (height, width), none in zip(shapes, ignored, strict=True)]
            assert here.confusion.sum((1, 2)).tolist() == sizes
        assert (here.confusion.sum((1, 2)) <= [height * width for height, width in shapes]).all()
    assert clean.headline["iou"] > 0.9  # an oracle, but for what resizing blurs


@pytest.mark.parametrize("classes", [2, 3])
def test_tiles_are_scored_as_the_whole_image_where_no_pixel_sees_another(classes: int) -> None:
    metadata, dataset = described("tile", classes), Photos(classes, broken=4)
    learner = Segmentation(pointwise(classes), metadata)

    def predict(images: np.ndarray) -> np.ndarray:
        assert images.shape[1:] == (SIDE, SIDE, 3) and len(images) <= 3
        with torch.no_grad():
            return learner.probabilities(torch.from_numpy(images)).numpy()

    found = score(predict, dataset, range(6), metadata, Scoring(1, 3))
    assert found.skipped == ("4.png: broken",) and found.indices == (0, 1, 2, 3, 5)
    for row, index in enumerate(found.indices):
        with torch.no_grad():
            whole = learner.probabilities(torch.from_numpy(dataset.image(index)[None])).numpy()[0]
        expected = Pixels.of(whole, dataset.mask(index), metadata.threshold, classes)
        for resolution in ("training", "original"):
            assert np.array_equal(found.pixels[resolution].confusion[row], expected.confusion[0])
            assert np.array_equal(found.pixels[resolution].boundary[row], expected.boundary[0])
            np.testing.assert_allclose(found.pixels[resolution].losses[row], expected.losses[0], rtol=1e-4)
    with pytest.raises(DataError, match=r"none of the 1 photos could be read; the first: 4\.png: broken"):
        score(predict, dataset, [4], metadata, Scoring(1, 3))


class Coarse(Photos):
    """The same with masks of half the size."""

    def mask(self, index: int) -> np.ndarray:
        return np.ascontiguousarray(super().mask(index)[::2, ::2])


def test_tiles_are_scored_at_the_size_of_coarser_masks_too() -> None:
    found = score(brightness, Coarse(), range(6), described("tile"), Scoring(1, 3))
    original = [found.pixels["original"].confusion[row].sum() for row in range(6)]
    assert original == [(Coarse().mask(index) != 255).sum() for index in range(6)]
    assert (found.pixels["training"].confusion.sum((1, 2)) > np.array(original) * 3).all()


def test_validation_in_tiles_counts_as_scoring_does(caplog) -> None:
    metadata, dataset = described("tile"), Photos(broken=2)
    learner = TiledSegmentation(pointwise(), metadata, bce, images=dataset)
    with torch.no_grad():
        validated = learner.evaluate([{"index": torch.tensor([0, 1, 2])}, {"index": torch.tensor([3])}])
        assert learner.evaluate([{"index": torch.tensor([2, 0, 1, 3])}]) == pytest.approx(validated)
        probabilities = [learner.probabilities(torch.from_numpy(dataset.image(i)[None])) for i in (0, 1, 3)]
        truths = [torch.from_numpy(dataset.mask(i)[None]) for i in (0, 1, 3)]
        expected = [bce(p.logit()[:, None], mask).item() for p, mask in zip(probabilities, truths, strict=True)]

    def predict(images: np.ndarray) -> np.ndarray:
        return learner.probabilities(torch.from_numpy(images)).detach().numpy()

    scores = score(predict, dataset, (0, 1, 3), metadata, Scoring(1, 3))
    assert validated["iou"] == scores.headline["iou"] and next(iter(validated)) == "iou"
    assert validated["loss"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert [record.getMessage() for record in caplog.records] == ["skipped 2.png: broken"]


@pytest.mark.parametrize(("strict", "says"), [(False, "no validation photo of photos can be read"), (True, "2.png")])
def test_validation_in_tiles_of_nothing_that_can_be_read_is_no_perfect_score(strict: bool, says: str) -> None:
    learner = TiledSegmentation(pointwise(), described("tile"), bce, images=Photos(broken=2), strict=strict)
    with torch.no_grad(), pytest.raises((DataError, ImageError), match=says):
        learner.evaluate([{"index": torch.tensor([2] if not strict else [0, 2])}])


@pytest.mark.parametrize("classes", [2, 4])
def test_an_image_is_counted_in_strips_as_whole(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, classes, (9, 7), np.uint8), np.ones((13, 11), np.uint8))
    mask[40:44] = 255
    probability = rng.random((classes, *mask.shape), np.float32)
    probability = probability[1] if classes == 2 else probability / probability.sum(0)
    threshold = 0.5 if classes == 2 else None
    whole = Pixels.of(probability, mask, threshold, classes)
    monkeypatch.setattr(pixels, "AT_ONCE", 100)  # so that boundaries are found in strips too
    cuts = [0, 1, 30, 41, 43, 90, len(mask)]
    strips = [(top, probability[..., top:end, :]) for top, end in itertools.pairwise(cuts)]
    found = Pixels.of_strips(strips, mask, threshold, classes)
    for name in ("confusion", "boundary", "probability"):
        assert np.array_equal(getattr(found, name), getattr(whole, name))
    for name in ("overlap", "losses"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-6)


@pytest.mark.parametrize("shape", [(10, 20), (10, 100), (100, 10), (64, 40)])
def test_a_picture_smaller_than_a_tile_is_padded_for_the_network_and_cut_again(shape: tuple[int, int]) -> None:
    image, sizes = photo(0, height=shape[0], width=shape[1]), set()

    def predict(images: np.ndarray) -> np.ndarray:
        sizes.add(images.shape[1:3])
        return brightness(images)

    rows = list(predict_tiles(predict, image, 32, 0.5, fill=(9, 9, 9)))
    assert sizes == {(32, 32)}
    found = np.concatenate([part for _, part in rows])
    assert [top for top, _ in rows] == np.cumsum([0, *[len(part) for _, part in rows]])[:-1].tolist()
    np.testing.assert_allclose(found, brightness(image), atol=1e-6)


class Masks(Dataset):
    """Masks as they are given."""

    def __init__(self, *masks: np.ndarray) -> None:
        super().__init__("masks", [str(i) for i in range(len(masks))], classes=("a", "b"))
        self.masks = masks

    def mask(self, index: int) -> np.ndarray:
        return self.masks[index]


def test_small_objects_are_measured_by_what_half_of_the_foreground_belongs_to() -> None:
    mask = np.zeros((1000, 2000), np.uint8)
    for x in range(50):
        mask[100:120, 30 * x : 30 * x + 20] = 1
    mask[500::7, ::9] = 1  # specks, which are many
    found = object_sizes(Masks(mask), [0], 100, threads=1)
    assert found is not None and found.own == pytest.approx(20)
    assert found.squashed == pytest.approx(20 * 100 / np.sqrt(1000 * 2000))
    mask[600:, 600:] = 1
    found = object_sizes(Masks(mask), [0], 100, threads=1)
    assert found is not None and found.squashed > 50
    assert object_sizes(Masks(mask[:150, :150]), [0], 100, threads=1) is None  # not much larger than the square
    assert object_sizes(Masks(np.zeros((1000, 2000), np.uint8)), [0], 100, threads=1) is None


def test_loaders_need_no_image_where_a_whole_one_is_validated() -> None:
    samples = Numbers(Photos(), [3, 1, 5], image_size=SIDE)
    (batch,) = Loader(samples, batch_size=4, shuffle=False, drop_last=False, threads=1).epoch(0)
    assert set(batch) == {"index"} and batch["index"].tolist() == [3, 1, 5]
