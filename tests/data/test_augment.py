"""Each operation against torchvision's, at the same parameters; tolerances are mean absolute differences of 255."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from simclrseg.data import rendering
from simclrseg.data.augment import STRENGTHS, VIEW_COLUMNS, Strengths, View, adjusted, sample_view
from simclrseg.data.randomness import uniform
from simclrseg.data.rendering import render_view, resample
from tests.data.fakes import photo

PAPER = STRENGTHS["paper"]


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Small operations on busy cores are many times slower with several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def views(n: int, height: int, width: int, strengths: Strengths = PAPER) -> list[View]:
    numbers = uniform(0, 0, np.arange(n), VIEW_COLUMNS)
    return [sample_view(u, height, width, strengths) for u in numbers.tolist()]


def tensor(image: np.ndarray) -> torch.Tensor:
    """(3, H, W) in [0, 1]: in floats, torchvision does not cut off fractions after each operation."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def difference(ours: np.ndarray, theirs: torch.Tensor) -> float:
    return float((tensor(ours) - theirs).abs().mean()) * 255


def in_place(operation: Callable[[np.ndarray, float], None], image: np.ndarray, value: float) -> np.ndarray:
    copy = image.copy()
    operation(copy, value)
    return copy


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest gap between two empirical distributions (Kolmogorov and Smirnov)."""
    both = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(np.sort(x), both, side="right") / len(x) for x in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


@pytest.mark.parametrize("size", [(375, 500), (500, 120), (40, 300), (9, 7)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 1.0), (0.9, 1.0)])
def test_crops_are_distributed_as_torchvision_draws_them(size: tuple[int, int], scale: tuple[float, float]) -> None:
    n = 4000
    ours = np.array([view.box for view in views(n, *size, replace(PAPER, crop_scale=scale))])
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(224, scale=scale)
    picture = torch.empty(3, *size)
    theirs = np.array([[p[k] for k in ("top", "left", "height", "width")] for p in draw(crop, picture, n)])
    for column in range(4):
        assert distance(ours[:, column], theirs[:, column]) < 1.95 * math.sqrt(2 / n)  # p < 0.001 above
    area = [boxes[:, 2] * boxes[:, 3] for boxes in (ours, theirs)]
    assert distance(*area) < 1.95 * math.sqrt(2 / n)


def draw(transform: v2.Transform, picture: torch.Tensor, n: int) -> list[dict]:
    return [transform.make_params([picture]) for _ in range(n)]


def test_a_photo_too_narrow_for_any_crop_gives_torchvisions_central_one() -> None:
    for height, width in ((10, 400), (400, 10), (401, 11)):
        theirs = v2.RandomResizedCrop(224).make_params([torch.empty(3, height, width)])
        expected = tuple(theirs[k] for k in ("top", "left", "height", "width"))
        central = sum(view.box == expected for view in views(50, height, width))
        assert central == 50


def test_colour_factors_and_their_order_are_distributed_as_torchvision_draws_them() -> None:
    n = 4000
    always = replace(PAPER, jitter_probability=1.0)
    ours = views(n, 100, 100, always)
    torch.manual_seed(0)
    jitter = v2.ColorJitter(0.8, 0.8, 0.8, 0.2)
    theirs = draw(jitter, torch.empty(3, 4, 4), n)
    for k, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        a = np.array([view.factors[k] for view in ours])
        b = np.array([float(p[f"{name}_factor"]) for p in theirs])
        assert distance(a, b) < 1.95 * math.sqrt(2 / n)
    counts = np.unique([view.order for view in ours], axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert np.abs(counts - n / 24).max() < 5 * math.sqrt(n / 24)


# Smallest share of the area, colour strength s, probabilities of greyscale and blur.
PUBLISHED = {
    "paper": (0.08, 1.0, 0.2, 0.5),  # Chen et al. 2020, appendix A
    "cifar": (0.08, 0.5, 0.2, 0.0),  # appendix B.9
    "seed": (0.2, 0.5, 0.2, 0.5),  # the project that this one continues
    "whole": (1.0, 0.5, 0.0, 0.0),  # our own
}


def test_every_preset_is_compared_with_its_numbers() -> None:
    assert list(PUBLISHED) == list(STRENGTHS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_operations_happen_with_the_published_probabilities(name: str) -> None:
    n = 4000
    *_, greyscale, blur = PUBLISHED[name]
    drawn = views(n, 100, 100, STRENGTHS[name])
    for probability, happened in (
        (0.5, [view.flip for view in drawn]),
        (0.8, [view.factors != (1, 1, 1, 0) for view in drawn]),
        (greyscale, [view.grayscale for view in drawn]),
        (blur, [view.sigma > 0 for view in drawn]),
    ):
        assert abs(np.mean(happened) - probability) <= 4 * math.sqrt(probability * (1 - probability) / n)


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """In the range and spread evenly over it: p < 0.001 beyond (Kolmogorov and Smirnov)."""
    assert low <= values.min() and values.max() <= high
    steps = np.arange(len(values) + 1) / len(values)
    place = (np.sort(values) - low) / (high - low)
    assert max(np.abs(place - steps[:-1]).max(), np.abs(place - steps[1:]).max()) < 1.95 / math.sqrt(len(values))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_uniform_over_the_published_ranges(name: str) -> None:
    smallest, s, _, blur = PUBLISHED[name]
    side = 1 << 20  # of so large a square that pixels round nothing
    drawn = views(4000, side, side, STRENGTHS[name])
    jittered = np.array([view.factors for view in drawn if view.factors != (1, 1, 1, 0)])
    for factors in jittered.T[:3]:  # brightness, contrast, saturation
        assert_uniform(factors, 1 - 0.8 * s, 1 + 0.8 * s)
    assert_uniform(jittered.T[3], -0.2 * s, 0.2 * s)
    if blur:
        assert_uniform(np.array([view.sigma for view in drawn if view.sigma]), 0.1, 2.0)
    height, width = np.array([view.box[2:] for view in drawn]).T / side
    if smallest == 1:
        assert (height == 1).all() and (width == 1).all()
        return
    fits = height * width < 3 / 4  # below it a crop of any ratio lies inside a square, and none is drawn again
    assert_uniform(np.log(width / height)[fits], math.log(3 / 4) - 1e-5, math.log(4 / 3) + 1e-5)
    assert_uniform((height * width)[fits], smallest - 1e-5, 3 / 4)
    assert (height * width).max() > 0.95


def test_decisions_are_independent_of_each_other() -> None:
    drawn = views(10_000, 200, 200)
    table = np.array(
        [(v.flip, v.factors[0], v.factors[3], v.grayscale, v.sigma, v.box[0], v.box[2], v.order[0]) for v in drawn]
    )
    correlation = np.corrcoef(table.T.astype(float)) - np.eye(table.shape[1])
    correlation[5, 6] = correlation[6, 5] = 0  # where a crop can lie depends on its height
    assert np.abs(correlation).max() < 5 / math.sqrt(len(drawn))


@pytest.mark.parametrize("factor", [0.2, 0.7, 1.0, 1.3, 1.8])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_colour_change_is_torchvisions_within_half_a_level(name: str, factor: float) -> None:
    ours_function = getattr(rendering, f"adjust_{name}")
    theirs_function = getattr(F, f"adjust_{name}")
    for seed in range(4):
        image = photo(seed, height=96, width=96)
        theirs = theirs_function(tensor(image), factor)
        assert difference(in_place(ours_function, image, factor), theirs) < 0.5


@pytest.mark.parametrize("turns", [-0.5, -0.2, -0.01, 0.05, 0.1, 0.2, 0.5])
def test_hue_is_torchvisions_within_two_levels(turns: float) -> None:
    for seed in range(4):
        image = photo(seed, height=96, width=96)
        assert difference(in_place(rendering.adjust_hue, image, turns), F.adjust_hue(tensor(image), turns)) < 2.0


def test_grayscale_is_torchvisions_within_half_a_level() -> None:
    image = photo(0, height=96, width=96)
    ours = in_place(rendering.adjust_saturation, image, 0.0)
    assert (ours == ours[:, :, :1]).all()
    assert difference(ours, F.rgb_to_grayscale(tensor(image), num_output_channels=3)) < 0.5


@pytest.mark.parametrize("sigma", [0.1, 0.4, 0.8, 1.3, 2.0])
@pytest.mark.parametrize(("size", "kernel"), [(224, 23), (96, 9), (32, 3)])
def test_blur_is_torchvisions_with_the_papers_kernel_within_half_a_level(size: int, kernel: int, sigma: float) -> None:
    image = photo(1, height=size, width=size)
    theirs = F.gaussian_blur(tensor(image), [kernel, kernel], [sigma, sigma])
    assert difference(in_place(rendering.gaussian_blur, image, sigma), theirs) < 0.5


@pytest.mark.parametrize("sigma", [0.4, 0.8, 1.0, 1.3, 4 / 3, 2.0])
def test_blur_leaves_out_taps_of_the_papers_kernel_that_weigh_next_to_nothing(sigma: float) -> None:
    line = np.zeros((224, 224, 3), np.uint16)
    line[:, 112] = 65535
    rendering.gaussian_blur(line, sigma)
    x = np.arange(-11, 12)  # 23 taps: a tenth of the side
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    left_out = np.abs(line[50, 112 - 11 : 112 + 12, 0] / 65535 - kernel / kernel.sum()).sum()
    assert left_out < 2 * 0.003  # what is left out, and as much again on the others, whose sum is 1


@pytest.mark.parametrize(
    "size",
    [(50, 60), (96, 96), (97, 110), (120, 150), (160, 96), (211, 211), (300, 212), (424, 600), (840, 1600), (40, 400)],
)
def test_resampling_is_torchvisions_antialiased_bilinear_within_one_and_a_half_levels(size: tuple[int, int]) -> None:
    image = photo(2, height=size[0], width=size[1])
    out = np.empty((96, 96, 3), np.uint8)
    resample(image, out)
    assert difference(out, resize(tensor(image), 96)) < 1.5


def test_resampling_real_photos_is_closer_to_torchvision_than_opencv_is(real_data: Path) -> None:
    ours, area, linear = [], [], []
    for path in sorted((real_data / "oxford_pets").rglob("*.jpg"))[:12]:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        theirs = resize(tensor(image), 128)
        out = np.empty((128, 128, 3), np.uint8)
        resample(image, out)
        ours.append(difference(out, theirs))
        area.append(difference(cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA), theirs))
        linear.append(difference(cv2.resize(image, (128, 128), interpolation=cv2.INTER_LINEAR), theirs))
    assert np.mean(ours) < 1.25
    assert np.mean(ours) < np.mean(area) < np.mean(linear)


def resize(image: torch.Tensor, size: int) -> torch.Tensor:
    return F.resize(image, [size, size], interpolation=InterpolationMode.BILINEAR, antialias=True)


def torchvision_view(image: np.ndarray, view: View, size: int) -> torch.Tensor:
    """The view as torchvision's functional operations render it, one after the other, in floats."""
    kernel = 2 * max(1, size // 20) + 1
    x = F.resized_crop(tensor(image), *view.box, [size, size], InterpolationMode.BILINEAR, antialias=True)
    x = F.horizontal_flip(x) if view.flip else x
    functions = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    for operation in view.order:
        x = functions[operation](x, view.factors[operation])
    x = F.rgb_to_grayscale(x, num_output_channels=3) if view.grayscale else x
    return F.gaussian_blur(x, [kernel, kernel], [view.sigma, view.sigma]) if view.sigma else x


@pytest.mark.parametrize("name", STRENGTHS)
def test_whole_views_are_torchvisions_within_two_levels(name: str) -> None:
    differences = []
    for seed in range(3):
        image = photo(seed, height=187, width=250)
        for view in views(40, 187, 250, STRENGTHS[name]):
            out = np.empty((112, 112, 3), np.uint8)
            render_view(image, view, out)
            differences.append(difference(out, torchvision_view(image, view, 112)))
    assert np.mean(differences) < 2.0
    assert np.max(differences) < 8.0


def test_whole_views_of_real_photos_are_torchvisions_within_two_levels(real_data: Path) -> None:
    differences = []
    for path in sorted((real_data / "oxford_pets").rglob("*.jpg"))[:10]:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        for view in views(12, *image.shape[:2]):
            out = np.empty((128, 128, 3), np.uint8)
            render_view(image, view, out)
            differences.append(difference(out, torchvision_view(image, view, 128)))
    assert np.mean(differences) < 2.0


def test_a_view_is_written_into_its_row_and_the_photo_is_left_alone() -> None:
    image = photo(0, height=80, width=90)
    before = image.copy()
    batch = np.zeros((3, 2, 48, 48, 3), np.uint8)
    view = View((5, 6, 60, 70), flip=True, order=(3, 1, 0, 2), factors=(1.2, 0.8, 1.5, 0.1), grayscale=True, sigma=1.0)
    render_view(image, view, batch[1, 1])
    np.testing.assert_array_equal(image, before)
    assert batch[1, 1].any()
    batch[1, 1] = 0
    assert not batch.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_tiny_photos_can_be_augmented(size: tuple[int, int]) -> None:
    image = photo(0, height=size[0], width=size[1])
    for view in views(20, *size):
        out = np.empty((32, 32, 3), np.uint8)
        render_view(image, view, out)
        assert abs(int(out.max()) - int(out.min())) <= 255


def test_a_strength_that_is_given_replaces_the_presets_and_leaves_the_others() -> None:
    cifar = STRENGTHS["cifar"]
    assert adjusted(cifar) == cifar
    assert adjusted(cifar, crop_scale=0.5) == replace(cifar, crop_scale=(0.5, 1.0))
    assert adjusted(cifar, blur_probability=0.25) == replace(cifar, blur_probability=0.25)
    assert adjusted(cifar, grayscale_probability=0.0) == replace(cifar, grayscale_probability=0.0)


def test_the_colour_strength_is_that_of_the_paper() -> None:
    for name, s in (("paper", 1.0), ("cifar", 0.5), ("seed", 0.5)):
        assert adjusted(STRENGTHS[name], color_strength=s) == STRENGTHS[name]
    bare = adjusted(STRENGTHS["paper"], color_strength=0.0)
    assert (bare.brightness, bare.contrast, bare.saturation, bare.hue) == (0, 0, 0, 0)
    assert adjusted(STRENGTHS["paper"], color_strength=2.5).hue <= 0.5


def test_a_crop_of_the_whole_area_is_the_whole_photo_whatever_its_shape() -> None:
    for height, width in ((10, 400), (375, 500), (401, 11)):
        u = np.random.default_rng(0).random(VIEW_COLUMNS).tolist()
        assert sample_view(u, height, width, STRENGTHS["whole"]).box == (0, 0, height, width)
        half = adjusted(STRENGTHS["whole"], crop_scale=0.5)
        assert sample_view(u, height, width, half).box != (0, 0, height, width)
