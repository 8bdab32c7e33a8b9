"""The CIFAR stem: what it computes, and that its stored form loads everywhere."""

from __future__ import annotations

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from simclrseg.errors import UsageError
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.stems import choose_stem, restored, set_cifar_stem, stored
from simclrseg.models.weights import load_backbone, save_weights


def cifar_resnet() -> nn.Module:
    torch.manual_seed(0)
    backbone = build_backbone("resnet18")
    set_cifar_stem(backbone)
    return backbone.eval()


def save(path, backbone: nn.Module) -> None:
    metadata = ModelMetadata(task="backbone", encoder="resnet18", image_size=32, stem="cifar")
    save_weights(path, stored(backbone.state_dict()), metadata)


@pytest.mark.parametrize(
    ("asked", "encoder", "size", "stem"),
    [
        ("auto", "resnet18", 32, "cifar"),
        ("auto", "resnet18", 64, "imagenet"),
        ("auto", "mobilenet_v2", 32, "imagenet"),
        ("cifar", "resnet18", 224, "cifar"),
        ("imagenet", "resnet18", 32, "imagenet"),
    ],
)
def test_the_stem_follows_the_size_unless_it_is_named(asked, encoder, size, stem):
    assert choose_stem(asked, build_backbone(encoder), encoder, image_size=size) == stem


def test_another_encoder_has_no_cifar_stem():
    with pytest.raises(UsageError, match="--stem cifar is for ResNets, and mobilenet_v2 is none"):
        choose_stem("cifar", build_backbone("mobilenet_v2"), "mobilenet_v2", image_size=32)


def test_the_last_features_of_a_32_px_picture_have_4_px():
    with torch.inference_mode():
        assert cifar_resnet()(torch.randn(1, 3, 32, 32))[-1].shape == (1, 512, 4, 4)


def test_the_stored_7x7_kernel_is_the_same_convolution():
    backbone = cifar_resnet()
    seven = cifar_resnet()
    seven.conv1 = nn.Conv2d(3, 64, 7, stride=1, padding=3, bias=False)
    nn.Module.load_state_dict(seven, stored(backbone.state_dict()), strict=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        for ours, theirs in zip(backbone(images), seven(images), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)


def test_what_is_stored_is_restored_to_the_bit():
    state = cifar_resnet().state_dict()
    again = restored(stored(state))
    assert again.keys() == state.keys()
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_the_stored_file_loads_strictly_into_torchvision(tmp_path):
    save(tmp_path / "b.safetensors", cifar_resnet())
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(load_file(tmp_path / "b.safetensors"), strict=True)


def test_it_loads_whole_with_either_stem(tmp_path):
    source = cifar_resnet()
    save(tmp_path / "b.safetensors", source)
    torch.manual_seed(1)
    same, usual = build_backbone("resnet18"), build_backbone("resnet18")
    set_cifar_stem(same)
    for backbone in (same, usual):
        report = load_backbone(backbone, tmp_path / "b.safetensors")
        assert report.loaded == report.total
        assert not report.mismatched
    assert same.conv1.kernel_size == (3, 3)
    assert usual.conv1.kernel_size == (7, 7)
    assert torch.equal(same.conv1.weight, source.conv1.weight)
    assert torch.equal(usual.conv1.weight[:, :, 2:5, 2:5], source.conv1.weight)
    assert usual.conv1.weight.count_nonzero() == source.conv1.weight.count_nonzero()


@pytest.mark.parametrize("prefix", ["", "encoder."])
@pytest.mark.parametrize("small", [True, False])
def test_a_small_stem_is_found_inside_a_whole_model_of_ours_however_it_is_stored(tmp_path, prefix, small):
    theirs = build_backbone("resnet18")
    set_cifar_stem(theirs)
    state = theirs.state_dict() if small else stored(theirs.state_dict())
    metadata = ModelMetadata(task="classification", encoder="resnet18", image_size=32, stem="cifar")
    save_weights(tmp_path / "a.safetensors", {prefix + key: tensor for key, tensor in state.items()}, metadata)
    same, usual = build_backbone("resnet18"), build_backbone("resnet18")
    set_cifar_stem(same)
    load_backbone(same, tmp_path / "a.safetensors", minimum=1.0)
    load_backbone(usual, tmp_path / "a.safetensors", minimum=1.0)
    assert torch.equal(same.conv1.weight, theirs.conv1.weight)
    assert torch.equal(usual.conv1.weight, stored(theirs.state_dict())["conv1.weight"])
