"""EuroSAT and BigEarthNet: bands by name, patches brought to one grid."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from simclrseg.data.datasets import DATASETS
from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import DataError, ImageError
from simclrseg.images.bands import colour_bands
from tests.data.datasets.patches import NAMES, write_patch
from tests.images.tiffs import tiff


def open_patches(root: Path) -> Dataset:
    return DATASETS["bigearthnet"](root, DatasetOptions())


def test_a_real_patch_has_its_own_values_in_every_band(real_data):
    dataset = open_patches(real_data / "bigearthnet_s2")
    picture = dataset.image(0)
    assert picture.shape == (120, 120, 12) and picture.dtype == dataset.dtype == np.uint16
    assert dataset.full_scale == 10_000
    red, green, blue = colour_bands(dataset.bands)
    folder = next((real_data / "bigearthnet_s2").iterdir())
    for band, name in ((red, "B04"), (green, "B03"), (blue, "B02"), (dataset.bands.index("nir"), "B08")):
        with Image.open(folder / f"{folder.name}_{name}.tif") as stored:
            np.testing.assert_array_equal(picture[:, :, band], np.asarray(stored))
    for band, name in enumerate(NAMES):  # enlarged ones keep their mean and their range
        with Image.open(folder / f"{folder.name}_{name}.tif") as stored:
            values = np.asarray(stored)
        assert picture[:, :, band].mean() == pytest.approx(values.mean(), rel=0.01)
        assert values.min() <= picture[:, :, band].min() and picture[:, :, band].max() <= values.max()


def test_coarse_bands_lie_on_the_grid_of_the_fine_ones(tmp_path):
    write_patch(tmp_path, "patch")
    picture = open_patches(tmp_path).image(0).astype(float) - 100 * np.arange(12)
    inside = picture[:, 6:-6]  # beyond the middle of the outermost coarse pixels there is nothing to interpolate
    assert np.abs(inside - inside[:, :, [3]]).max() <= 1  # no band is shifted against red: a shift of 1 px would be 10


def test_reflectances_above_one_are_cut_off(tmp_path):
    write_patch(tmp_path, "bright", value=9000)
    picture = open_patches(tmp_path).image(0)
    assert picture.max() == 10_000 and picture.min() > 8000


@pytest.mark.parametrize("version", [1, 2])
def test_the_published_lists_are_followed(tmp_path, version):
    for name in "abcd":
        write_patch(tmp_path / "tile", name)
    splits = {"a": "train", "b": "validation", "c": "test", "elsewhere": "test"}
    if version == 1:
        for split, file in (("train", "train"), ("validation", "val"), ("test", "test")):
            rows = [f"{name},more" for name, kind in splits.items() if kind == split]
            (tmp_path / f"{file}.csv").write_text("\n".join(rows) + "\n")
    else:
        table = pa.table({"patch_id": list(splits), "split": list(splits.values())})
        pyarrow.parquet.write_table(table, tmp_path / "metadata.parquet")
    dataset = open_patches(tmp_path)
    assert dataset.official == {"train": (0,), "validation": (1,), "test": (2,)}
    assert "4 patches (1 train, 1 validation, 1 test)" in dataset.summary[0]


@pytest.mark.parametrize(
    ("file", "content"),
    [("metadata.parquet", b"no parquet"), ("train.csv", b"\xff\xfe"), ("train.csv", b'"' + b"x" * 200_000)],
)
def test_damaged_lists_are_one_line(tmp_path, file, content):
    write_patch(tmp_path, "a")
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match="lists of BigEarthNet cannot be read") as caught:
        open_patches(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_patch_without_a_band_or_with_8_bits_is_named(tmp_path):
    write_patch(tmp_path, "a")
    write_patch(tmp_path, "b")
    (tmp_path / "a" / "a_B11.tif").unlink()
    Image.new("L", (60, 60)).save(tmp_path / "b" / "b_B12.tif")
    dataset = open_patches(tmp_path)
    with pytest.raises(ImageError, match=r"a_B11\.tif: no such file"):
        dataset.image(0)
    with pytest.raises(ImageError, match=r"b_B12\.tif: a band of BigEarthNet is grey, with 16 bits"):
        dataset.image(1)


def test_eurosat_has_its_classes(real_data, monkeypatch):
    monkeypatch.setenv("SIMCLRSEG_DATA", str(real_data))
    dataset = open_dataset("eurosat")
    assert (len(dataset), len(dataset.label_names), dataset.official) == (1000, 10, {})
    assert np.bincount(dataset.labels).tolist() == [100] * 10
    assert dataset.bands == ("red", "green", "blue") and dataset.dtype == np.uint8
    key = dataset.keys[-1]
    assert f"/{dataset.label_names[dataset.labels[-1]]}/" in key
    file = real_data / "eurosat" / key
    np.testing.assert_array_equal(dataset.image(999), cv2.imread(str(file))[:, :, ::-1])


UNPACKED = "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"  # by EuroSATallBands.zip


@pytest.mark.parametrize("folder", [UNPACKED, "EuroSAT_MS", "."])
def test_the_13_bands_of_eurosat_are_found_by_name(tmp_path, folder):
    for name in ("AnnualCrop", "River"):
        (tmp_path / folder / name).mkdir(parents=True)
        samples = np.arange(1, 14, dtype=np.uint16) * 1000 + np.zeros((64, 64, 13), np.uint16)
        (tmp_path / folder / name / f"{name}_1.tif").write_bytes(tiff(samples))
    dataset = DATASETS["eurosat_ms"](tmp_path, DatasetOptions())
    assert dataset.labels.tolist() == [0, 8]
    values = dict(zip(dataset.bands, dataset.image(0)[0, 0].tolist(), strict=True))
    assert (values["blue"], values["green"], values["red"], values["nir"]) == (2000, 3000, 4000, 8000)
    assert values["swir22"] == values["nir08"] == values["cirrus"] == 10_000  # cut off from 10,000 on
    assert dataset.bands[-1] == "nir08"


def test_a_file_with_fewer_bands_is_named(tmp_path):
    (tmp_path / "AnnualCrop").mkdir()
    (tmp_path / "AnnualCrop" / "1.tif").write_bytes(tiff(np.zeros((8, 8, 3), np.uint8)))
    dataset = DATASETS["eurosat_ms"](tmp_path, DatasetOptions())
    with pytest.raises(ImageError, match=r"1\.tif: 3 bands of 8 bits, but those of EuroSAT are 13 of 16"):
        dataset.image(0)


def test_both_sets_call_the_same_bands_alike(tmp_path):
    write_patch(tmp_path / "bigearthnet", "a")
    (tmp_path / "eurosat_ms" / "AnnualCrop").mkdir(parents=True)
    (tmp_path / "eurosat_ms" / "AnnualCrop" / "1.tif").write_bytes(tiff(np.zeros((8, 8, 13), np.uint16)))
    twelve = open_patches(tmp_path / "bigearthnet").bands
    thirteen = DATASETS["eurosat_ms"](tmp_path / "eurosat_ms", DatasetOptions()).bands
    assert set(thirteen) - set(twelve) == {"cirrus"} and not set(twelve) - set(thirteen)
