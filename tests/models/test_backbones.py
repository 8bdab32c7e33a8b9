"""Encoders by name."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch

from simclrseg.errors import UnknownName, UsageError
from simclrseg.models import BACKBONES
from simclrseg.models.backbones import build_backbone, check_backbone, feature_size, pooled_features

FAMILIES = ["resnet18", "mobilenet_v2", "efficientnet-b0", "mit_b0", "densenet121", "timm-skresnet18"]


def test_the_table_is_smps_own():
    assert list(BACKBONES) == smp.encoders.get_encoder_names()


def test_every_name_of_the_table_has_five_stages():
    channels = [smp.encoders.encoders[name]["params"]["out_channels"] for name in BACKBONES]
    assert {len(stages) for stages in channels} == {6}
    assert all(stages[-1] > 0 for stages in channels)


@pytest.mark.parametrize("name", FAMILIES)
def test_pooled_features_are_the_average_of_the_last_stage(name):
    backbone = build_backbone(name).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        pooled = pooled_features(backbone, images)
        last = backbone(images)[-1]
    assert pooled.shape == (2, feature_size(backbone))
    assert last.shape[2:] == (2, 3)
    assert torch.allclose(pooled, last.flatten(2).mean(-1), atol=1e-6)


def test_a_backbone_takes_more_than_three_bands():
    backbone = build_backbone("resnet18", in_channels=12)
    assert pooled_features(backbone, torch.randn(2, 12, 32, 32)).shape == (2, 512)


def test_an_encoder_that_takes_three_bands_only_is_refused_for_twelve():
    with pytest.raises(UsageError, match="'mit_b0' takes pictures of 3 bands, not 12"):
        check_backbone("mit_b0", in_channels=12)


def test_a_misspelt_backbone_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="'resnet51': did you mean 'resnet50'"):
        check_backbone("resnet51")


def test_a_misspelt_timm_model_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"'tu-convnext_tini'.*did you mean 'tu-convnext_tiny'"):
        check_backbone("tu-convnext_tini")


def test_a_timm_model_that_does_not_exist_at_all_gets_no_list_of_a_thousand():
    with pytest.raises(UsageError, match="no such model") as caught:
        check_backbone("tu-qqqqqqqqqqqqqq")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tu-vit_small_patch16_224", "does not halve its feature maps"),
        ("tu-swin_tiny_patch4_window7_224", "pictures of one size only"),
    ],
)
def test_a_timm_model_that_no_unet_can_stand_on_is_refused_by_name(name, reason):
    with pytest.raises(UsageError, match=f"{name}.*{reason}"):
        check_backbone(name)


@pytest.mark.parametrize("name", ["tu-convnext_tiny", "tu-resnet18.a1_in1k", "tu-mobilenetv3_large_100"])
def test_a_timm_model_with_five_stages_is_accepted(name):
    check_backbone(name)
