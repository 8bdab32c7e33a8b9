"""What a model file says of itself survives the file."""

from __future__ import annotations

import pytest

from simclrseg.errors import ModelFileError
from simclrseg.evaluation.opened import target_of_model
from simclrseg.metadata import ONNX_PREFIX, ModelMetadata

METADATA = ModelMetadata(
    task="segmentation",
    encoder="resnet18",
    image_size=128,
    classes=("background", "pet"),
    colours=((0, 0, 0), (255, 0, 0)),
    threshold=0.5,
    metrics={"iou": 0.1 + 0.2},
)


@pytest.mark.parametrize("prefix", ["", ONNX_PREFIX])
def test_metadata_survives_a_header(prefix):
    header = METADATA.to_strings(prefix)
    assert all(isinstance(value, str) for value in header.values())
    assert ModelMetadata.from_strings({**header, "format": "pt"}, prefix) == METADATA


def test_a_foreign_header_is_nobodys_metadata():
    assert ModelMetadata.from_strings({"format": "pt", "task": "x"}) is None


def test_keys_of_a_newer_minor_version_are_left_alone():
    assert ModelMetadata.from_strings({**METADATA.to_strings(), "mood": '"good"'}) == METADATA


def test_a_newer_format_says_to_update():
    with pytest.raises(ModelFileError, match=r"format 99.*pip install -U"):
        ModelMetadata.from_strings({**METADATA.to_strings(), "format_version": "99"})


def test_garbage_is_one_line():
    with pytest.raises(ModelFileError, match="cannot be read") as caught:
        ModelMetadata.from_strings({**METADATA.to_strings(), "image_size": '"big"'})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bands", "image"), [(("red", "green", "blue"), "photo.jpg"), (("red", "green", "blue", "nir"), "scene.tif")]
)
def test_the_command_that_is_shown_takes_a_picture_such_as_the_model_does(bands, image):
    numbers = {"mean": (0.5,) * len(bands), "std": (0.5,) * len(bands), "in_channels": len(bands), "bands": bands}
    metadata = METADATA.model_copy(update=numbers)
    assert target_of_model(metadata).next(metadata) == f"simclrseg predict {image} -o mask.png"
