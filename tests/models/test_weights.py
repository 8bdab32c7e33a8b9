"""Weights files and what is loaded from them."""

from __future__ import annotations

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from simclrseg.errors import WeightsError
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone, pooled_features
from simclrseg.models.segmenters import build_unet
from simclrseg.models.weights import load_backbone, read_metadata, read_weights, save_weights
from tests.models.features import last_features

METADATA = ModelMetadata(
    task="backbone", method="simclr", encoder="resnet18", image_size=96, dataset="shapes", epochs=3
)


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    """A ResNet-18 whose batch norms have seen something."""
    torch.manual_seed(0)
    module = build_backbone("resnet18").train()
    with torch.no_grad():
        module(torch.randn(4, 3, 64, 64))
    return module.eval()


@pytest.fixture(scope="module")
def file(backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    save_weights(path, backbone.state_dict(), METADATA)
    return path


def test_tensors_and_metadata_come_back_as_they_were(backbone, file):
    tensors, metadata = read_weights(file)
    assert metadata == METADATA == read_metadata(file)
    assert tensors.keys() == backbone.state_dict().keys()
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in backbone.state_dict().items())


def test_a_write_that_fails_keeps_the_old_file(file, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(AttributeError):
        save_weights(path, {"a": "no tensor"}, METADATA)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_tensors_that_share_memory_can_be_saved(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    save_weights(tmp_path / "a.safetensors", {"whole": whole, "part": whole.t(), "again": whole}, METADATA)
    tensors, _ = read_weights(tmp_path / "a.safetensors")
    assert torch.equal(tensors["part"], whole.t())
    assert torch.equal(tensors["again"], whole)


@pytest.mark.parametrize(
    "build",
    [
        lambda: torchvision.models.resnet18(),
        lambda: timm.create_model("resnet18", num_classes=0),
        lambda: build_backbone("resnet18"),
    ],
    ids=["torchvision", "timm", "smp"],
)
def test_a_resnet_backbone_loads_strictly_elsewhere_with_identical_features(backbone, file, build):
    other = build().eval()
    if hasattr(other, "fc") and isinstance(other.fc, nn.Linear):
        other.fc = nn.Identity()
    other.load_state_dict(safetensors.torch.load_file(file), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(last_features(other, images), backbone(images)[-1])


@pytest.mark.parametrize("prefix", ["", "model.", "encoder.model."])
def test_a_transformer_loads_from_timms_keys_and_from_smps(prefix, tmp_path):
    theirs = timm.create_model("vit_tiny_patch16_224").eval()
    tensors = {prefix + key: tensor for key, tensor in theirs.state_dict().items()}
    save_weights(tmp_path / "vit.safetensors", tensors, METADATA)
    ours = build_backbone("tu-vit_tiny_patch16_224").eval()
    report = load_backbone(ours, tmp_path / "vit.safetensors")
    assert report.loaded == report.total == 150 and len(report.left_out) == 2  # timm's classifier
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(pooled_features(ours, images), theirs.forward_features(images)[:, 0], atol=1e-5)


def test_loading_reports_every_tensor(backbone, file):
    fresh = build_backbone("resnet18").eval()
    report = load_backbone(fresh, file)
    assert str(report) == "loaded 120 of 120 tensors"
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(fresh(images)[-1], backbone(images)[-1])


def test_an_encoder_is_found_inside_a_whole_network(backbone, tmp_path):
    network = build_unet(backbone, "resnet18", 1)
    save_weights(tmp_path / "model.safetensors", network.state_dict(), METADATA)
    report = load_backbone(build_backbone("resnet18"), tmp_path / "model.safetensors")
    assert report.loaded == report.total
    assert report.prefix == "encoder."
    assert str(report).endswith("prefix 'encoder.' removed; left out: decoder, segmentation_head")


def test_a_classifier_is_left_out_and_named(tmp_path):
    whole = torchvision.models.resnet18().state_dict()
    safetensors.torch.save_file(whole, tmp_path / "tv.safetensors")
    report = load_backbone(build_backbone("resnet18"), tmp_path / "tv.safetensors")
    assert report.loaded == report.total
    assert sorted(report.left_out) == ["fc.bias", "fc.weight"]
    assert str(report).endswith("left out: fc")


def test_counters_of_batch_norm_that_old_files_lack_are_not_missed(backbone, tmp_path):
    old = {key: tensor for key, tensor in backbone.state_dict().items() if "num_batches" not in key}
    safetensors.torch.save_file(old, tmp_path / "old.safetensors")
    report = load_backbone(build_backbone("resnet18"), tmp_path / "old.safetensors")
    assert report.loaded == report.total == len(old)
    assert not report.missing


def test_another_shape_is_reported_with_both(backbone, tmp_path):
    tensors = {**backbone.state_dict(), "conv1.weight": torch.zeros(64, 3, 3, 3)}
    save_weights(tmp_path / "small.safetensors", tensors, METADATA)
    report = load_backbone(build_backbone("resnet18"), tmp_path / "small.safetensors")
    assert report.mismatched == ["conv1.weight (64, 3, 3, 3) for (64, 3, 7, 7)"]
    assert report.loaded == report.total - 1
    assert not report.missing


def test_what_a_file_lacks_is_warned_of(backbone, file, tmp_path, caplog):
    """Who asks from Python sees warnings alone, and a tenth of the encoder may stay random."""
    state = backbone.state_dict()
    lacking = {key: tensor for key, tensor in state.items() if not key.startswith("layer4.1.bn")}
    save_weights(tmp_path / "less.safetensors", lacking, METADATA)
    load_backbone(build_backbone("resnet18"), file)
    assert not caplog.records
    report = load_backbone(build_backbone("resnet18"), tmp_path / "less.safetensors")
    assert len(report.missing) == 8
    (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line == (
        "less.safetensors lacks layer4.1.bn1.weight, layer4.1.bn1.bias, layer4.1.bn1.running_mean and 5 more: what it "
        "lacks stays random"
    )


def test_too_little_that_matches_fails_shows_keys_of_both_sides_and_changes_nothing(file, backbone, tmp_path):
    other = build_backbone("resnet50")
    before = {key: tensor.clone() for key, tensor in other.state_dict().items()}
    with pytest.raises(WeightsError, match=r"does not fit.* of \d+ tensors match, at least 90% must; .*conv1.*layer1"):
        load_backbone(other, file)
    assert all(torch.equal(before[key], tensor) for key, tensor in other.state_dict().items())


def test_loading_leaves_the_file_as_it_is(file):
    before = file.read_bytes()
    load_backbone(build_backbone("resnet18"), file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["a.ckpt", "a.pth", "a.pt", "a.bin"])
def test_a_pickle_is_refused_unopened_as_a_whole_model(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x02evil")
    with pytest.raises(WeightsError, match=r"pickled checkpoint, and only \.safetensors is read as a whole model"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\xff" * 100, "is no whole safetensors file"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n", "git lfs pull"),
        (b"PK\x03\x04" + b"\0" * 100, "is a pickled checkpoint: call it .pth"),
    ],
)
def test_a_foreign_file_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=reason) as caught:
        read_weights(path)
    assert "a.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_onnx_file_is_no_weights_to_train_on(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    with pytest.raises(WeightsError, match=r"model\.onnx is a model to predict with"):
        read_weights(tmp_path / "model.onnx")


def test_a_file_that_was_cut_short_is_refused(file, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        WeightsError, match=r"cut\.safetensors is damaged: it does not hold the bytes that were written"
    ):
        read_weights(path)
    safetensors.torch.save_file({"weight": torch.zeros(99)}, path)  # another tool's has no checksum
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"cut\.safetensors is no whole safetensors file"):
        read_weights(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.safetensors: no such file"):
        read_weights(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="is a folder"):
        read_weights(tmp_path)


def test_a_file_of_another_tool_has_no_metadata(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert read_metadata(tmp_path / "a.safetensors") is None


def test_a_file_of_a_newer_format_is_named(tmp_path):
    header = {**METADATA.to_strings(), "format_version": "99"}
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata=header)
    with pytest.raises(WeightsError, match=r"a\.safetensors: .*format 99"):
        read_metadata(tmp_path / "a.safetensors")
