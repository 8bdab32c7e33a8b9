"""Encoders by name."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from simclrseg.errors import UnknownName, UsageError
from simclrseg.models import BACKBONES
from simclrseg.models.backbones import (
    ALIASES,
    build_backbone,
    check_backbone,
    feature_size,
    is_vit,
    pooled_features,
    stages,
)

FAMILIES = ["resnet18", "mobilenet_v2", "efficientnet-b0", "mit_b0", "densenet121", "timm-skresnet18", "cnn"]
SMALL_VIT = "tu-vit_tiny_patch16_224"


def test_the_table_is_smps_own_with_ours():
    assert sorted(BACKBONES) == sorted([*smp.encoders.get_encoder_names(), *ALIASES])
    assert "cnn" in BACKBONES and list(ALIASES) == ["vit_b_16"]


def test_every_name_of_smps_table_has_five_stages():
    channels = [encoder["params"]["out_channels"] for encoder in smp.encoders.encoders.values()]
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


@pytest.mark.parametrize(("width", "height"), [(64, 64), (224, 224), (32, 96)])
def test_a_transformers_features_are_its_normed_class_token_at_any_size(width, height):
    backbone = build_backbone(SMALL_VIT).eval()
    images = torch.randn(2, 3, height, width)
    with torch.inference_mode():
        pooled = pooled_features(backbone, images)
        _, prefix = backbone(images)
        token = backbone.model.norm(prefix[-1][:, 0])
    assert pooled.shape == (2, feature_size(backbone)) == (2, 192)
    assert torch.allclose(pooled, token, atol=1e-5)


def test_vit_b_16_is_timms_vision_transformer_without_its_classifier():
    with torch.device("meta"):
        backbone = build_backbone("vit_b_16", in_channels=12)
        theirs = timm.create_model("vit_base_patch16_224", num_classes=0, in_chans=12)
        assert pooled_features(backbone, torch.zeros(2, 12, 64, 64)).shape == (2, 768)
    ours = {key.removeprefix("model."): tensor.shape for key, tensor in backbone.state_dict().items()}
    assert ours == {key: tensor.shape for key, tensor in theirs.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18", "mit_b0", "vit_b_16", "tu-vit_small_patch14_dinov2", "tu-convnext_tiny"])
def test_a_transformer_is_known_by_its_name(name):
    assert is_vit(name) == ("vit_" in name)


@pytest.mark.parametrize("name", [*FAMILIES, "vgg11", "xception", "tu-convnext_atto", SMALL_VIT])
def test_the_stages_hold_every_parameter_once(name):
    backbone = build_backbone(name)
    held = [id(parameter) for part in stages(backbone) for module in part for parameter in module.parameters()]
    assert sorted(held) == sorted(id(parameter) for parameter in backbone.parameters())


def named(backbone) -> list[list[str]]:
    names = {id(module): name for name, module in backbone.named_modules()}
    return [[names.get(id(module), "tokens") for module in part] for part in stages(backbone)]


def test_the_last_stage_is_layer4_the_last_block_or_the_last_convolution():
    assert named(build_backbone("resnet18")) == [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]
    assert named(build_backbone("cnn")) == [[f"blocks.{number}"] for number in range(5)]
    first, *blocks, last = named(build_backbone(SMALL_VIT))
    assert first[:2] == ["tokens", "model.patch_embed"] and last[:2] == ["model.blocks.11", "model.norm"]
    assert blocks == [[f"model.blocks.{number}"] for number in range(11)]


def test_a_later_stage_does_not_change_an_earlier_map():
    backbone = build_backbone("efficientnet-b0").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(images)
        for module in stages(backbone)[-1]:
            for parameter in module.parameters():
                parameter.add_(0.1)
        after = backbone(images)
    assert [torch.equal(*maps) for maps in zip(before, after, strict=True)] == [True] * 5 + [False]


def test_looking_for_stages_leaves_the_encoder_as_it_was():
    backbone = build_backbone("resnet18").train().requires_grad_(False)
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    assert len(stages(backbone)) == 5
    assert backbone.training and not any(parameter.requires_grad for parameter in backbone.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(("size", "remedy"), [(100, "take 112 or 96"), (40, "take 48 or 32"), (33, "take 48 or 32")])
def test_a_transformer_refuses_pictures_that_its_patches_do_not_fill(size, remedy):
    with pytest.raises(UsageError, match=f"--image-size {size}: vit_b_16 cuts.*multiple of 16: {remedy}"):
        check_backbone("vit_b_16", image_size=size)


@pytest.mark.parametrize(("name", "size"), [("vit_b_16", 64), ("tu-vit_small_patch14_dinov2", 100), ("resnet18", 100)])
def test_a_size_that_fits_is_accepted(name, size):
    check_backbone(name, image_size=size)


@pytest.mark.parametrize("name", ["resnet18", "cnn", SMALL_VIT])
def test_a_backbone_of_twelve_bands_at_64_pixels(name):
    backbone = build_backbone(name, in_channels=12)
    assert pooled_features(backbone, torch.randn(2, 12, 64, 64)).shape == (2, feature_size(backbone))
    assert len(stages(backbone)) >= 5


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
        ("tu-mixer_s16_224", "does not halve its feature maps"),
        ("tu-swin_tiny_patch4_window7_224", "pictures of one size only"),
    ],
)
def test_a_timm_model_that_no_unet_can_stand_on_is_refused_by_name(name, reason):
    with pytest.raises(UsageError, match=f"{name}.*{reason}"):
        check_backbone(name)


@pytest.mark.parametrize("name", ["tu-convnext_tiny", "tu-resnet18.a1_in1k", "tu-mobilenetv3_large_100"])
def test_a_timm_model_with_five_stages_is_accepted(name):
    check_backbone(name)
