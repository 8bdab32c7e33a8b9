"""Files of models whose bytes have changed since they were written."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image

from simclrseg.cli.app import main
from simclrseg.errors import ModelFileError, WeightsError
from simclrseg.exporters import READERS
from simclrseg.exporters.onnx import export_onnx
from simclrseg.inference.session import open_model
from simclrseg.models.pickles import read_pickle
from simclrseg.models.weights import load_backbone, read_checkpoint, read_metadata, read_weights, save_weights
from simclrseg.system.checksum import is_damaged
from tests.exporters.small import described, small

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each precision, by its name."""
    folder = tmp_path_factory.mktemp("onnx")
    files = {precision: folder / f"{precision}.onnx" for precision in ("fp32", "fp16", "int8")}
    for precision, path in files.items():
        images = [PIXELS[0]]
        export_onnx(small(1), path, described(), precision=precision, images=images, calibration=images, tolerance=1)
    return files


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_weights(path, small(1).state_dict(), described().model_copy(update={"classes": ("Bär", 'a "b"\n')}))
    return path


def flipped(source: Path, target: Path, place: int, bit: int) -> Path:
    content = bytearray(source.read_bytes())
    content[place] ^= 1 << bit
    target.write_bytes(content)
    return target


def flips(path: Path, count: int) -> list[tuple[int, int]]:
    """Random bits of a file, and those of its first and last bytes."""
    size = path.stat().st_size
    chance = random.Random(0)
    return [(chance.randrange(size), chance.randrange(8)) for _ in range(count)] + [(0, 0), (9, 4), (size - 1, 0)]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_flipped_bit_of_an_onnx_file_is_refused_or_changes_nothing(onnx_files, precision, tmp_path) -> None:
    file = onnx_files[precision]
    whole = open_model(file, "cpu")
    answer = whole.run(PIXELS)
    refused = 0
    for place, bit in flips(file, 50):
        try:
            model = open_model(flipped(file, tmp_path / "model.onnx", place, bit), "cpu")
        except ModelFileError as error:
            refused += "is damaged" in str(error)
        else:  # the checksum's own words
            assert (model.metadata, model.run(PIXELS).tolist()) == (whole.metadata, answer.tolist()), (place, bit)
    assert refused > 30


def test_a_flipped_bit_of_a_weights_file_is_refused_or_changes_nothing(weights, tmp_path) -> None:
    tensors, metadata = read_weights(weights)
    refused = 0
    for place, bit in flips(weights, 200):
        try:
            read, said = read_weights(flipped(weights, tmp_path / "model.safetensors", place, bit))
        except WeightsError as error:
            refused += "is damaged" in str(error)
        else:
            assert said == metadata, (place, bit)
            assert all(torch.equal(read[key], tensor) for key, tensor in tensors.items()), (place, bit)
    assert refused > 100
    assert metadata is not None and metadata.classes == ("Bär", 'a "b"\n')


@pytest.mark.parametrize("read", [read_checkpoint, read_metadata, lambda path: load_backbone(small(1), path)])
@pytest.mark.parametrize("place", ["weights", "encoder", "header"])
def test_damaged_weights_are_one_line_with_a_way_on(weights, tmp_path, read: Callable[[Path], object], place) -> None:
    content = weights.read_bytes()
    at = {"weights": len(content) - 5, "encoder": content.index(b"resnet18"), "header": content.index(b'":')}[place]
    with pytest.raises(WeightsError, match=r"model.safetensors is damaged.*fetch it again, or take") as caught:
        read(flipped(weights, tmp_path / "model.safetensors", at, 0))
    assert "\n" not in str(caught.value)


def test_predict_says_of_a_damaged_model_that_it_is(onnx_files, tmp_path, capsys) -> None:
    file = onnx_files["fp32"]
    weight = file.read_bytes().index(small(1)[3].weight.detach().numpy().tobytes())
    damaged = flipped(file, tmp_path / "model.onnx", weight + 3, 6)
    Image.fromarray(PIXELS[0]).save(tmp_path / "photo.png")
    with pytest.raises(SystemExit) as caught:
        main(["predict", str(tmp_path / "photo.png"), "--model", str(damaged), "--device", "cpu"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {damaged} is damaged") and "`simclrseg export RUN`" in line


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_a_damaged_file_is_not_described(onnx_files, weights, tmp_path, suffix) -> None:
    file = {".onnx": onnx_files["fp32"], ".safetensors": weights}[suffix]
    assert READERS[suffix](file)["metadata"]
    with pytest.raises(ModelFileError, match="is damaged"):
        READERS[suffix](flipped(file, tmp_path / f"model{suffix}", 20, 0))


def test_an_onnx_file_that_another_tool_has_changed_is_not_called_damaged(onnx_files, tmp_path) -> None:
    model = onnx.load(onnx_files["fp32"])
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weight.raw_data = bytes(len(weight.raw_data))  # of the same size, and with all metadata
    onnx.save(model, tmp_path / "model.onnx")
    opened = open_model(tmp_path / "model.onnx", "cpu")
    assert opened.metadata == open_model(onnx_files["fp32"], "cpu").metadata
    assert not np.array_equal(opened.run(PIXELS), open_model(onnx_files["fp32"], "cpu").run(PIXELS))


def test_weights_that_another_tool_has_changed_are_not_called_damaged(weights, tmp_path) -> None:
    with safetensors.safe_open(weights, "pt") as file:
        header = file.metadata()
    tensors = {key: torch.zeros_like(tensor) for key, tensor in safetensors.torch.load_file(weights).items()}
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors", metadata=header)
    read, metadata = read_weights(tmp_path / "model.safetensors")
    assert metadata == read_weights(weights)[1]
    assert not any(tensor.any() for tensor in read.values())


def test_files_without_a_checksum_are_read_as_they_are(make_model, tmp_path) -> None:
    safetensors.torch.save_file(small(1).state_dict(), tmp_path / "theirs.safetensors")
    assert not is_damaged(tmp_path / "theirs.safetensors")
    assert read_weights(tmp_path / "theirs.safetensors")[0].keys() == small(1).state_dict().keys()
    assert open_model(make_model(), "cpu").metadata.encoder == "resnet18"


def test_a_checksum_says_in_the_metadata_what_it_covers(onnx_files, weights) -> None:
    with safetensors.safe_open(weights, "pt") as file:
        words = [file.metadata()["checksum"]]
    for file in onnx_files.values():
        onnx.checker.check_model(file)
        words += [entry.value for entry in onnx.load(file).metadata_props if entry.key == "simclrseg.checksum"]
    assert len(words) == 4
    assert all(word.startswith("CRC-32 of this file with zeros in place of these digits: ") for word in words)


@pytest.mark.parametrize("summed", [True, False])
def test_a_flipped_bit_of_a_pickled_checkpoint_is_refused_where_it_has_checksums(tmp_path, summed: bool) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(summed)
    try:
        torch.save(small(1).state_dict(), tmp_path / "whole.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    weight = small(1)[0].weight
    assert torch.equal(read_pickle(tmp_path / "whole.pth")["0.weight"], weight)
    place = (tmp_path / "whole.pth").read_bytes().index(weight.detach().numpy().tobytes())
    damaged = flipped(tmp_path / "whole.pth", tmp_path / "damaged.pth", place + 2, 6)
    if summed:
        with pytest.raises(WeightsError, match=r"damaged.pth is no whole checkpoint \(Bad CRC-32.*\): fetch it again"):
            read_pickle(damaged)
    else:  # nothing tells
        assert not torch.equal(read_pickle(damaged)["0.weight"], weight)
