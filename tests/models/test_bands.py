"""A first layer for other bands than it was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from simclrseg.metadata import RGB, ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.stems import adapt_bands
from simclrseg.models.weights import load_backbone, save_weights

TWELVE = ("coastal", "blue", "green", "red", *(f"other{number}" for number in range(8)))


def encoder(bands: tuple[str, ...], *, name: str = "resnet18", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_backbone(name, in_channels=len(bands)).eval()


def saved(backbone: nn.Module, bands: tuple[str, ...], path: Path) -> Path:
    figures = {"mean": (0.5,) * len(bands), "std": (0.25,) * len(bands), "bands": bands, "full_scale": 10_000}
    metadata = ModelMetadata(task="backbone", encoder="resnet18", image_size=64, in_channels=len(bands), **figures)
    save_weights(path, backbone.state_dict(), metadata)
    return path


def test_of_12_bands_red_green_and_blue_are_selected(tmp_path: Path) -> None:
    source, target = encoder(TWELVE), encoder(RGB, seed=1)
    report = load_backbone(target, saved(source, TWELVE, tmp_path / "a.safetensors"))
    kernels = source.state_dict()["conv1.weight"]
    torch.testing.assert_close(target.state_dict()["conv1.weight"], kernels[:, [3, 2, 1]] * 4, rtol=0, atol=0)
    assert (report.loaded, report.mismatched) == (report.total, [])
    assert str(report).count("first layer adapted from 12 bands to 3 (red, green, blue selected)") == 1


def test_three_bands_become_12_by_name_and_the_new_ones_their_mean(tmp_path: Path) -> None:
    source, target = encoder(RGB), encoder(TWELVE, seed=1)
    report = load_backbone(target, saved(source, RGB, tmp_path / "a.safetensors"), bands=TWELVE)
    old, new = source.state_dict()["conv1.weight"], target.state_dict()["conv1.weight"]
    for number, colour in enumerate(RGB):
        torch.testing.assert_close(new[:, TWELVE.index(colour)], old[:, number] / 4)
    torch.testing.assert_close(new[:, 0], old.mean(dim=1) / 4)
    assert "coastal, other0" in report.adapted[0] and "made from the mean of blue, green, red" in report.adapted[0]


def test_a_grey_picture_looks_to_the_adapted_network_as_before(tmp_path: Path) -> None:
    """Bands that all hold the same sum to what they did: 12 kernels of a quarter, or 3 of four times."""
    source, target = encoder(RGB), encoder(TWELVE, seed=1)
    load_backbone(target, saved(source, RGB, tmp_path / "a.safetensors"), bands=TWELVE)
    grey = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        expected, got = source(grey.expand(1, 3, 64, 64))[-1], target(grey.expand(1, 12, 64, 64))[-1]
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_three_bands_to_12_and_back_are_what_they_were(tmp_path: Path) -> None:
    first, wide, last = encoder(RGB), encoder(TWELVE, seed=1), encoder(RGB, seed=2)
    load_backbone(wide, saved(first, RGB, tmp_path / "a.safetensors"), bands=TWELVE)
    load_backbone(last, saved(wide, TWELVE, tmp_path / "b.safetensors"), bands=RGB)
    for key, tensor in first.state_dict().items():
        torch.testing.assert_close(last.state_dict()[key], tensor, rtol=0, atol=0)


def test_bands_in_another_order_are_told_apart_by_name(tmp_path: Path) -> None:
    source, target = encoder(RGB), encoder(RGB, seed=1)
    report = load_backbone(target, saved(source, RGB, tmp_path / "a.safetensors"), bands=RGB[::-1])
    expected = source.state_dict()["conv1.weight"].flip(1)
    torch.testing.assert_close(target.state_dict()["conv1.weight"], expected, rtol=0, atol=0)
    assert report.adapted == ["first layer adapted from 3 bands to 3"]


def test_bands_without_one_in_common_begin_with_the_mean_of_all() -> None:
    kernels = torch.randn(4, 2, 3, 3)
    state, line = adapt_bands(
        {"conv.weight": kernels}, {"conv.weight": torch.zeros(4, 1, 3, 3)}, bands=("a", "b"), wanted=("c",)
    )
    torch.testing.assert_close(state["conv.weight"][:, 0], kernels.sum(dim=1))
    assert line.endswith("(c made from the mean of a, b)")


def test_the_same_bands_are_left_as_they_are(tmp_path: Path) -> None:
    source, target = encoder(TWELVE), encoder(TWELVE, seed=1)
    report = load_backbone(target, saved(source, TWELVE, tmp_path / "a.safetensors"), bands=TWELVE)
    assert report.adapted == [] and "adapted" not in str(report)
    torch.testing.assert_close(target.state_dict(), source.state_dict())


@pytest.mark.parametrize("name", ["densenet121", "mobilenet_v2", "tu-convnext_atto"])
def test_the_first_layer_is_found_in_other_encoders(tmp_path: Path, name: str) -> None:
    source, target = encoder(TWELVE, name=name), encoder(RGB, name=name, seed=1)
    report = load_backbone(target, saved(source, TWELVE, tmp_path / "a.safetensors"), minimum=1.0)
    assert report.adapted and not report.mismatched
