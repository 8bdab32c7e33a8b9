"""Metadata of strangers and damaged ones: each value is checked before it is used, and healthy ones are read on."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from simclrseg.data.datasets.shapes import Shapes
from simclrseg.data.split_file import split_json, stored_split
from simclrseg.data.splits import make_split
from simclrseg.errors import DataError, ModelFileError, WeightsError
from simclrseg.metadata import FORMAT_VERSION, ModelMetadata
from simclrseg.models.weights import read_checkpoint, read_metadata

HEADER = ModelMetadata(
    task="segmentation",
    encoder="resnet18",
    image_size=128,
    classes=("background", "pet"),
    colours=((0, 0, 0), (255, 0, 0)),
    threshold=0.5,
    metrics={"iou": 0.5, "iou_of_none": float("nan")},
).to_strings()
FALSE = {
    "format_version": ['"1"', "null", "0", "-1", "true", "1.0", "[]", "9" * 5000, "{", "1e999"],
    "task": ["null", '""', "3"],
    "encoder": ["null", '""', json.dumps("x" * 5000)],
    "image_size": ["0", "-5", "1000000000", '"128"', "128.5", "true", "null", "NaN", "9" * 90],
    "in_channels": ["1000000", "0", '"3"'],
    "bands": ['["red"]', '["r", "g", "b", "nir"]', '"red"', "[1, 2, 3]"],
    "classes": [json.dumps(list(map(str, range(200_000)))), '"ab"', "[1, 2]", "null", '["a", "a"]', '["\\ud800", "b"]'],
    "colours": ["[[0, 0, 0]]", "[[0, 0, 300], [1, 1, 1]]", "[[0, 0], [1, 1]]"],
    "mean": ["[0.5]", "[NaN, 0, 0]", '"x"', "[1e400, 0, 0]", "null", "[[1], [2], [3]]"],
    "std": ["[0, 0, 0]", "[1, 1]", "[NaN, 1, 1]", "[-1, 1, 1]", "[1e-300, 1, 1]", "[Infinity, 1, 1]"],
    "threshold": ["7", "0", "1", "-0.5", "NaN", '"0.5"', "true"],
    "full_scale": ["0", "70000", "255.0"],
    "reach": ["[1]", "[5, 1]", "[NaN, 1]"],
    "epochs": ["-1", "1e3", "9" * 90],
    "split_seed": ['"x"', "1.5"],
    "sides_multiple_of": ["0", "1000000"],
    "resize": ['"odd"'],
    "stem": ['"odd"'],
    "border": ['"odd"'],
    "precision": ['"fp64"'],
    "metrics": ['{"iou": "high"}', "[]"],
    "data": ["[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, "[]"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in FALSE.items() for value in values])
def test_a_value_that_cannot_be_is_named_with_its_key_in_one_line(key, value):
    with pytest.raises(ModelFileError, match=rf"metadata cannot be read \({key}\b.*export it again") as caught:
        ModelMetadata.from_strings({**HEADER, key: value})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_newer_format_is_told_before_what_only_it_knows():
    header = {**HEADER, "format_version": str(FORMAT_VERSION + 1), "resize": '"odd"', "image_size": "[1, 2]"}
    with pytest.raises(ModelFileError, match=r"a newer version made it, in format 2.*update simclrseg"):
        ModelMetadata.from_strings(header)


def test_a_missing_value_is_named():
    with pytest.raises(ModelFileError, match="image_size is missing"):
        ModelMetadata.from_strings({key: value for key, value in HEADER.items() if key != "image_size"})


def test_what_earlier_versions_wrote_is_read():
    first = ("format_version", "task", "encoder", "in_channels", "mean", "std", "image_size", "classes", "metrics")
    found = ModelMetadata.from_strings({key: HEADER[key] for key in first})
    assert found is not None and (found.image_size, found.bands) == (128, ("red", "green", "blue"))


def test_names_of_other_bytes_than_utf_8_are_read():
    metadata = ModelMetadata(
        task="segmentation", encoder="cnn", image_size=32, classes=("caf\udce9", "b"), dataset="\udce9"
    )
    assert ModelMetadata.from_strings(metadata.to_strings()) == metadata


def write(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        json.dumps({"a": TENSOR, "b": {**TENSOR, "data_offsets": [4, 12]}}).encode(),
        json.dumps({"a": {**TENSOR, "data_offsets": [0, 2**60]}}).encode(),
        json.dumps({"a": {**TENSOR, "shape": [2**62, 2**62]}}).encode(),
        json.dumps({"a": {**TENSOR, "shape": [-2]}}).encode(),
        json.dumps({"a": {**TENSOR, "dtype": "F7"}}).encode(),
        json.dumps({"__metadata__": {"format_version": 1}, "a": TENSOR}).encode(),
        b'{"a":' + json.dumps(TENSOR).encode() + b',"a":' + json.dumps(TENSOR).encode() + b', "b": {}}',
        b"{" + b'"a":[' * 10_000,
        b'{"\xff": 1}',
        b"{",
        b"",
    ],
)
def test_a_broken_header_of_safetensors_is_one_line(tmp_path, header):
    path = write(tmp_path / "a.safetensors", header, bytes(16))
    with pytest.raises(WeightsError, match=r"safetensors file|nothing but zeros") as caught:
        read_metadata(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [2**63, 10**9, 101 * 10**6])
def test_a_header_of_any_size_reserves_nothing(tmp_path, size):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", size) + b"{}")
    with pytest.raises(WeightsError, match="no whole safetensors file"):
        read_metadata(tmp_path / "a.safetensors")


def test_a_flipped_byte_of_the_header_is_one_line_or_does_no_harm(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(2)}, path, metadata={"format": "pt", **HEADER})
    content = path.read_bytes()
    said = []
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1 :])
        try:
            read_checkpoint(path)
        except WeightsError as error:
            said.append(str(error))
    assert len(said) > 50 and not any("\n" in line for line in said)


SPLIT = split_json(Shapes(20), make_split(Shapes(20).keys, official={}, test_split="random", seed=0), None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"train": "abc"}, "train is"),
        ({"train": [1, 2]}, r"train\.0 is 1"),
        ({"test": None}, "test is null"),
        ({"test": [*SPLIT["test"], SPLIT["train"][0]]}, "twice"),
        ({"development": -1}, "development is -1"),
        ({"development": 1e400}, "development is Infinity"),
        ({"data_ratio": 7}, "data_ratio is 7"),
        ({"data_ratio": float("nan")}, "data_ratio is NaN"),
        ({"split_seed": "0"}, 'split_seed is "0"'),
        ({"test_split": "odd"}, "test_split is"),
        ({"fold": 5}, "fold is 5"),
        ({"fold": [1, 2, 3]}, "fold"),
    ],
)
def test_a_split_that_cannot_be_is_named_and_never_used(tmp_path, change, reason):
    (tmp_path / "split.json").write_text(json.dumps(SPLIT | change))
    with pytest.raises(
        DataError, match=rf"split\.json cannot be read \(.*{reason}.*restore it, or remove it"
    ) as caught:
        stored_split(Shapes(20), tmp_path / "split.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "3", "", "[" * 5000, "\0"])
def test_a_split_of_another_kind_is_one_line(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError, match=r"split\.json cannot be read"):
        stored_split(Shapes(20), tmp_path / "split.json")


def test_a_healthy_split_is_read(tmp_path):
    (tmp_path / "split.json").write_text(json.dumps(SPLIT))
    found = stored_split(Shapes(20), tmp_path / "split.json")
    assert [Shapes(20).keys[index] for index in found.test] == SPLIT["test"]
