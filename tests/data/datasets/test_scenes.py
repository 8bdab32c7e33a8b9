"""Folders of satellites' TIFFs: bands by name, floats by one rule, and pixels that hold nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from torch import nn

from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.normalization import band_statistics
from simclrseg.errors import DataError, UnknownName, UsageError
from simclrseg.models.stems import adapt_bands
from simclrseg.models.weights import read_metadata
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE
from tests.images.geotiffs import NODATA, UTM, geotiff
from tests.small import HARDWARE, export_nothing

NAMES = ("B02", "B03", "B04", "B08", "B11")
COMMON = ("blue", "green", "red", "nir", "swir16")


def scene(seed: int, dtype: type = np.float32) -> np.ndarray:
    """(24, 30, 5) with a value of its own in each band, and a bright half in all."""
    pixels = np.zeros((24, 30, 5)) + np.arange(1, 6) / 20 + 0.01 * seed
    pixels[:, 15:] *= 2
    return (pixels if dtype == np.float32 else pixels * 10_000).astype(dtype)


def scenes(
    folder: Path, count: int = 4, *, names=NAMES, dtype: type = np.float32, tags=UTM, masks: bool = True
) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir(exist_ok=True)
    for number in range(count):
        pixels = scene(number, dtype)
        if dtype == np.float32:
            pixels[:4, :6] = np.nan
        (folder / "images" / f"{number}.tif").write_bytes(geotiff(pixels, tags, names=names))
        cv2.imwrite(str(folder / "masks" / f"{number}.png"), np.repeat([[0] * 15 + [1] * 15], 24, 0).astype(np.uint8))
    if not masks:
        for file in (folder / "masks").iterdir():
            file.unlink()
        (folder / "masks").rmdir()
    return folder


def test_bands_of_a_folder_have_the_names_of_its_tiffs(tmp_path):
    dataset = open_dataset(str(scenes(tmp_path / "a")))
    assert (dataset.bands, dataset.full_scale, dataset.reach) == (COMMON, 10_000, (0, 1))
    assert dataset.image(1)[10, 2].tolist() == [600, 1100, 1600, 2100, 2600]
    said = "\n".join(dataset.summary)
    assert "5 bands of floating-point numbers, as 0.tif is: all bands are learned from: blue, green, red, nir" in said
    assert "floating-point bands: values from 0.05 to 0.56, of which 0 to 1 become 0 to 10,000" in said
    assert "pixels that hold nothing (the TIFFs' nodata, NaN) are ignored" in said


def test_bands_are_picked_and_ordered_by_name(tmp_path):
    folder = str(scenes(tmp_path / "a"))
    dataset = open_dataset(folder, DatasetOptions(bands=("red", "green", "blue")))
    assert dataset.bands == ("red", "green", "blue") and dataset.image(1)[10, 2].tolist() == [1600, 1100, 600]
    assert dataset.image(1).flags.c_contiguous and dataset.summary[-1].startswith("bands by name: red, green, blue of")
    with pytest.raises(UnknownName, match="unknown band of a 'nirr': did you mean 'nir'"):
        open_dataset(folder, DatasetOptions(bands=("nirr",)))
    of_a_model = open_dataset(folder, DatasetOptions(model_bands=("swir16", "nir")))
    assert of_a_model.bands == ("swir16", "nir")
    assert open_dataset(folder, DatasetOptions(model_bands=("vv",))).bands == COMMON


def test_files_that_name_no_bands_have_those_of_a_model_that_takes_as_many(tmp_path):
    folder = str(scenes(tmp_path / "a", names=()))
    assert open_dataset(folder, DatasetOptions(model_bands=COMMON)).bands == COMMON
    assert "nir" not in open_dataset(folder, DatasetOptions(model_bands=COMMON[:4])).bands


def test_files_with_another_order_of_named_bands_are_brought_to_that_of_the_first(tmp_path):
    folder = scenes(tmp_path / "a", dtype=np.uint16)
    turned = geotiff(scene(1, np.uint16)[:, :, ::-1].copy(), names=NAMES[::-1])
    (folder / "images" / "1.tif").write_bytes(turned)
    assert open_dataset(str(folder)).image(1)[10, 2].tolist() == [600, 1100, 1600, 2100, 2600]


def test_files_without_names_get_those_that_are_given_or_lie_beside_them(tmp_path):
    folder = scenes(tmp_path / "a", names=(), dtype=np.uint16)
    assert open_dataset(str(folder)).bands == ("band1", "band2", "band3", "band4", "band5")
    by_number = open_dataset(str(folder), DatasetOptions(bands=("band4", "band1")))
    assert by_number.image(0)[10, 2].tolist() == [2000, 500]
    with pytest.raises(UsageError, match=r"has 5 bands without names, .* as 'nir'[:;] name them all, .*bands\.yaml"):
        open_dataset(str(folder), DatasetOptions(bands=("nir", "red")))
    assert open_dataset(str(folder), DatasetOptions(bands=COMMON)).bands == COMMON
    (folder / "bands.yaml").write_text("bands: [B02, B03, B04, B08, B11]")
    picked = open_dataset(str(folder), DatasetOptions(bands=("red", "blue")))
    assert picked.bands == ("red", "blue") and picked.image(0)[10, 2].tolist() == [1500, 500]
    (folder / "bands.yaml").write_text("bands: [B02, B03]")
    with pytest.raises(DataError, match=r"0\.tif has 5 bands, and bands\.yaml names 2: name them all"):
        open_dataset(str(folder))


def test_pixels_that_hold_nothing_are_ignored_in_masks_and_figures(tmp_path):
    dataset = open_dataset(str(scenes(tmp_path / "a", 3)))
    mask = dataset.mask(1)
    assert (mask[:4, :6] == 255).all() and (mask == 255).sum() == 24 and not (mask[:, 15:] == 255).any()
    whole = np.concatenate([dataset.image(n)[~dataset.blank(n)] for n in range(3)]) / 10_000
    found = band_statistics(dataset, range(3), threads=1)
    np.testing.assert_allclose(found.mean, whole.mean(axis=0), rtol=1e-6)
    picked = open_dataset(str(tmp_path / "a"), DatasetOptions(bands=("nir",)))
    np.testing.assert_array_equal(picked.mask(1), mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_value_that_stands_for_nothing_is_ignored_in_photos_too(tmp_path, dtype):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    pixels = np.full((10, 12, 3), 90, dtype)
    pixels[:2] = 0
    for number in range(2):
        tags = UTM | {NODATA: "0"}
        (tmp_path / "images" / f"{number}.tif").write_bytes(geotiff(pixels + dtype(0), tags, photometric="rgb"))
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), np.tile([0, 1], (10, 6)).astype(np.uint8))
    mask = open_dataset(str(tmp_path)).mask(0)
    assert (mask[:2] == 255).all() and (mask[2:] < 2).all()


def test_an_image_that_cannot_be_read_does_not_take_its_mask_along(tmp_path):
    folder = scenes(tmp_path / "a")
    file = folder / "images" / "1.tif"
    file.write_bytes(file.read_bytes()[:-2000])
    assert (open_dataset(str(folder)).mask(1) < 2).all()


def test_kernels_are_kept_by_name_and_the_line_says_which():
    state = {"conv1.weight": nn.Conv2d(5, 8, 3).weight.detach()}
    own = {"conv1.weight": nn.Conv2d(3, 8, 3).weight.detach()}
    adapted, line = adapt_bands(state, own, bands=COMMON, wanted=("red", "green", "blue"))
    np.testing.assert_allclose(adapted["conv1.weight"], state["conv1.weight"][:, [2, 1, 0]] * 5 / 3, rtol=1e-5)
    assert line == "first layer adapted from 5 bands to 3 (red, green, blue selected)"
    numbered = tuple(f"band{number}" for number in range(1, 6))
    _, line = adapt_bands(state, own, bands=numbered, wanted=numbered[:3])
    assert line == "first layer adapted from 5 bands to 3 (band1, band2, band3 selected by their numbers)"
    _, line = adapt_bands(state, own, bands=COMMON, wanted=numbered[:3])
    assert "band1, band2, band3 made from the mean of blue, green, red, nir, swir16" in line


def test_a_backbone_of_five_bands_is_fine_tuned_on_three_by_name(tmp_path, monkeypatch, caplog):
    export_nothing(monkeypatch)
    shared: dict[str, Any] = {"hardware": HARDWARE, "console": {"runs": str(tmp_path / "runs")}}
    photos = scenes(tmp_path / "photos", 8, masks=False)
    config = {
        "data": {"dataset": [str(photos)], "image_size": 32},
        "model": {"backbone": "cnn"},
        "training": {"epochs": 1, "batch_size": 4, "optimizer": "adam", "learning_rate": 1e-4},
        **shared,
    }
    backbone = pretrain(PretrainConfig.model_validate(config)).run
    found = read_metadata(backbone / BACKBONE_FILE)
    assert (found.bands, found.full_scale, found.reach) == (COMMON, 10_000, (0, 1))
    labelled = scenes(tmp_path / "labelled", 12)
    config = {
        "data": {"dataset": str(labelled), "image_size": 32, "bands": "B04,B03,B02"},
        "model": {"pretrained": str(backbone)},
        "training": {"epochs": 1, "batch_size": 4},
        **shared,
    }
    with caplog.at_level(logging.INFO):
        model = finetune(FinetuneConfig.model_validate(config)).run
    assert "first layer adapted from 5 bands to 3 (red, green, blue selected)" in caplog.text
    found = read_metadata(model / MODEL_FILE)
    assert (found.bands, found.full_scale, found.reach) == (("red", "green", "blue"), 10_000, (0, 1))
    assert cv2.imread(str(model / "examples.png")).std() > 10


def with_thermal(folder: Path, *others: np.ndarray, names=("B02", "B03", "B04", "thermal")) -> str:
    """Reflectances from 0.05 to 0.36 in three bands beside others."""
    (folder / "images").mkdir(parents=True)
    for number in range(3):
        pixels = np.dstack([scene(number)[:, :, :3], *others]).astype(np.float32)
        (folder / "images" / f"{number}.tif").write_bytes(geotiff(pixels, names=names))
    return str(folder)


KELVIN = np.linspace(270, 320, 24 * 30).reshape(24, 30)


@pytest.mark.parametrize(
    ("other", "reach", "says"),
    [
        (KELVIN, (0.05, 320), "0.05 to 320, in which blue, with values from 0.05 to 0.14, has 3 of 10,000 steps left"),
        (KELVIN * 10, (0, 10_000), "0 to 10000, in which blue, with values from 0.05 to 0.14, has 0 of 10,000 steps"),
        (KELVIN / 320, (0, 1), ""),
    ],
)
def test_bands_of_another_kind_are_warned_of_where_they_leave_little_of_others(tmp_path, other, reach, says, caplog):
    folder = with_thermal(tmp_path / "a", other)
    dataset = open_dataset(folder)
    assert dataset.reach == pytest.approx(reach)
    assert (f"{tmp_path / 'a' / 'images'}: floating-point bands share one range, {says}" in caplog.text) == bool(says)
    assert ("(and of 2 more bands): store the bands in one range" in caplog.text) == bool(says)
    caplog.clear()
    picked = open_dataset(folder, DatasetOptions(bands=("red", "green", "blue")))
    assert picked.reach == (0, 1) and picked.image(0)[10, 2].tolist() == [1500, 1000, 500]
    alone = open_dataset(folder, DatasetOptions(bands=("thermal",)))
    assert alone.image(0).min() < 100 or alone.reach == reach
    again = open_dataset(folder, DatasetOptions(reach=dataset.reach))
    assert again.reach == dataset.reach and not caplog.records


def test_dark_bands_of_reflectances_and_bands_in_one_range_are_not_warned_of(tmp_path, caplog):
    dark = np.full((24, 30), 0.003) + np.eye(24, 30) * 0.002
    open_dataset(with_thermal(tmp_path / "a", dark, names=NAMES[:4]))
    counted = with_thermal(tmp_path / "b", dark, names=NAMES[:4])
    for file in (Path(counted) / "images").iterdir():
        pixels = np.dstack([scene(1)[:, :, :3] * 20_000, dark * 20_000]).astype(np.float32)
        file.write_bytes(geotiff(pixels, names=NAMES[:4]))
    assert open_dataset(counted).reach == (0, 10_000)
    index = np.linspace(-0.9, 0.9, 24 * 30).reshape(24, 30)
    assert open_dataset(with_thermal(tmp_path / "c", index)).reach == pytest.approx((-0.9, 0.9))
    assert not caplog.records
