"""Models that take other pictures than photos of any size: many bands, 16 bits, or one shape only."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from simclrseg.commands.predict import predict
from simclrseg.config.predict import PredictConfig
from simclrseg.errors import UsageError
from simclrseg.exporters.onnx import export_onnx
from simclrseg.inference.model import LoadedModel
from simclrseg.inference.session import open_model
from simclrseg.metadata import ModelMetadata
from tests.images.tiffs import tiff

BANDS = tuple(f"band{number}" for number in range(1, 13))
SHAPE = (2, 48, 64)


@pytest.fixture(scope="module")
def twelve(tmp_path_factory) -> Path:
    """A real export, which calls a pixel foreground where its band 5 is above half of the full scale."""
    metadata = ModelMetadata(
        task="segmentation",
        encoder="resnet18",
        decoder="unet",
        in_channels=12,
        bands=BANDS,
        full_scale=10_000,
        mean=(0.5,) * 12,
        std=(0.25,) * 12,
        image_size=64,
        classes=("background", "field"),
        threshold=0.5,
    )
    model = nn.Conv2d(12, 1, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[0, 4] = 5
        model.bias.zero_()
    path = tmp_path_factory.mktemp("twelve") / "model.onnx"
    export_onnx(model, path, metadata)
    return path


@pytest.fixture(scope="module")
def fixed(tmp_path_factory) -> Path:
    """A file that takes two photos of 48 x 64 pixels only, and calls red the foreground."""
    metadata = ModelMetadata(
        task="segmentation", encoder="resnet18", image_size=32, classes=("background", "red"), threshold=0.5
    )
    model = nn.Conv2d(3, 1, 1)
    with torch.no_grad():
        model.weight[:] = torch.tensor([4.0, 0, 0]).view(1, 3, 1, 1)
        model.bias.zero_()
    path = tmp_path_factory.mktemp("fixed") / "model.onnx"
    export_onnx(model, path, metadata, fixed_shape=SHAPE)
    return path


def run(model: Path, inputs: list[Path], output: Path, method: dict | None = None, **console):
    return predict(
        PredictConfig.model_validate(
            {
                "input": {"inputs": list(map(str, inputs)), "model": str(model)},
                "method": method or {},
                "hardware": {"device": "cpu"},
                "console": {"output": str(output), **console},
            }
        )
    )


def landscape(height: int = 90, width: int = 70) -> np.ndarray:
    """12 bands, of which only the fifth has a bright half."""
    pixels = np.random.default_rng(0).integers(0, 10_000, (height, width, 12)).astype(np.uint16)
    pixels[..., 4] = 1000
    pixels[height // 2 :, :, 4] = 60_000  # far above the full scale, as clouds are
    return pixels


@pytest.mark.parametrize("method", [{}, {"tile": 64}, {"tta": True}])
@pytest.mark.parametrize("layout", [{}, {"planar": True, "deflate": True, "predictor": 2}])
def test_a_model_of_twelve_bands_reads_them_from_tiffs(twelve, tmp_path, method, layout):
    (tmp_path / "a.tif").write_bytes(tiff(landscape(), **layout))
    result = run(twelve, [tmp_path / "a.tif"], tmp_path / "out", method, outputs=["mask", "json"])
    mask = cv2.imread(result.done[0]["mask"], cv2.IMREAD_UNCHANGED)
    assert mask.shape == (90, 70)
    assert (mask[:44] == 0).all() and (mask[46:] == 255).all()
    assert json.loads(Path(result.done[0]["json"]).read_text())["height"] == 90


def test_values_above_the_full_scale_are_cut_off_as_in_training(twelve, tmp_path):
    for name, pixels in [("a", landscape()), ("b", landscape().clip(0, 10_000))]:
        (tmp_path / f"{name}.tif").write_bytes(tiff(pixels))
    run(twelve, [tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out", outputs=["probability"])
    assert (tmp_path / "out" / "a.png").read_bytes() == (tmp_path / "out" / "b.png").read_bytes()
    model = LoadedModel(open_model(twelve, "cpu"))
    in_python = [model.predict(one).probability for one in (tmp_path / "a.tif", landscape())]
    np.testing.assert_array_equal(*in_python)


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.zeros((9, 9, 4), np.uint16), r"4 bands of 16 bits, and .* takes 12 of 16 \(band1, band2"),
        (np.zeros((9, 9, 12), np.uint8), r"12 bands of 8 bits, and .* takes 12 of 16 \(.*; give a picture of 16 bits$"),
    ],
)
def test_a_picture_of_other_bands_or_bits_is_named_and_the_rest_goes_on(twelve, tmp_path, pixels, says, caplog):
    (tmp_path / "a.tif").write_bytes(tiff(pixels))
    (tmp_path / "b.tif").write_bytes(tiff(landscape()))
    Image.new("RGB", (9, 9)).save(tmp_path / "c.jpg")
    result = run(twelve, [tmp_path], tmp_path / "out")
    assert [Path(row["image"]).name for row in result.done] == ["b.tif"]
    assert "c.jpg: not a TIFF" in result.failed[1]["reason"]
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(result.failed[0]["reason"])


def test_bands_are_no_photo_to_lay_colours_over(twelve, tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(landscape()))
    with pytest.raises(UsageError, match=r"--as cutout shows red, green and blue, and .* takes other pictures"):
        run(twelve, [tmp_path / "a.tif"], tmp_path / "out", outputs=["cutout"])


def red_half(width: int, height: int = 40) -> Image.Image:
    photo = Image.new("RGB", (width, height))
    photo.paste((255, 0, 0), (width // 2, 0, width, height))
    return photo


def test_a_file_of_a_fixed_shape_gets_photos_in_that_number_and_size(fixed, tmp_path, caplog):
    for number in range(3):  # a batch of two, and one of one
        red_half(40 + 20 * number).save(tmp_path / f"{number}.png")
    result = run(fixed, [tmp_path / f"{number}.png" for number in range(3)], tmp_path / "out")
    for number, row in enumerate(result.done):
        mask = cv2.imread(row["mask"], cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask[:, ::10], np.repeat(mask[:1, ::10], 40, axis=0))
        assert mask.shape == (40, 40 + 20 * number)
        assert not mask[:, : 18 + 10 * number].any() and mask[:, 22 + 10 * number :].all()
    assert "takes 48 x 64 pixels only" in caplog.text and len(result.done) == 3


def test_a_file_of_a_fixed_shape_takes_no_other_tiles(fixed, tmp_path):
    red_half(40).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"--tile 64: .* takes 48 x 64 pixels only; leave out --tile"):
        run(fixed, [tmp_path / "a.png"], tmp_path / "out", {"tile": 64})
    with pytest.raises(UsageError, match=r"tile is 64, and .* takes 48 x 64 only: leave tile out"):
        LoadedModel(open_model(fixed, "cpu")).predict(red_half(40), tile=64)
    opened = open_model(fixed, "cpu")
    tiled = replace(opened, metadata=opened.metadata.model_copy(update={"resize": "tile"}))
    with pytest.raises(UsageError, match=r"tiles are of 32 pixels, as in training, and .* takes 48 x 64 only: export"):
        LoadedModel(tiled).predict(red_half(40))


@pytest.mark.parametrize("shape", [(1, 48, 64), (2, 48, 64), (5, 30, 64), (3, 20, 10)])
def test_fewer_more_and_smaller_pictures_than_a_fixed_shape_are_filled_up(fixed, shape):
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    probability = open_model(fixed, "cpu").run(images)
    assert probability.shape == shape
    red = (images[..., 0] / 255 - 0.485) / 0.229
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-4 * red)), atol=1e-4)
