"""Segmentation networks around a given encoder, and out of a file."""

from __future__ import annotations

from functools import partial

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from simclrseg.errors import UnknownName, UsageError, WeightsError
from simclrseg.metadata import ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import build_backbone
from simclrseg.models.segmenters import build_dpt, build_unet, check_pair, default_decoder, load_segmenter
from simclrseg.models.weights import save_weights

SMALL_VIT = "tu-vit_tiny_patch16_224"
PATCH_14 = "tu-vit_small_patch14_reg4_dinov2"


def described(**changes) -> ModelMetadata:
    values = {"task": "segmentation", "encoder": "resnet18", "decoder": "unet", "image_size": 64}
    return ModelMetadata(**{**values, "classes": ("background", "pet"), "threshold": 0.5, **changes})


def test_the_unets_encoder_is_the_module_that_was_pretrained():
    backbone = build_backbone("resnet18")
    assert build_unet(backbone, "resnet18", 1).encoder is backbone


def test_building_the_unet_leaves_the_encoders_weights_alone():
    backbone = build_backbone("resnet18")
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    build_unet(backbone, "resnet18", 1)
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.state_dict().items())


SMPS = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "fpn": smp.FPN,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "dpt": partial(smp.DPT, num_classes=0, dynamic_img_size=True),
}


@pytest.mark.parametrize(
    ("decoder", "name"),
    [
        ("unet", "resnet18"),
        ("unet", "mit_b0"),
        ("unet", "vgg11"),
        ("unet", "tu-convnext_atto"),
        ("unet", "cnn"),
        ("unetplusplus", "resnet18"),
        ("fpn", "resnet18"),
        ("deeplabv3plus", "resnet18"),
        ("deeplabv3plus", "tu-resnet18"),
        ("dpt", SMALL_VIT),
    ],
)
def test_a_network_is_smps_own_key_for_key_and_output_for_output(decoder, name):
    ours = SEGMENTERS[decoder](build_backbone(name), name, 3).eval()
    theirs = SMPS[decoder](name, encoder_weights=None, classes=3).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
    assert {key.partition(".")[0] for key in ours.state_dict()} == {"encoder", "decoder", "segmentation_head"}


def test_every_decoder_is_compared_with_smps():
    assert list(SEGMENTERS) == list(SMPS)


@pytest.mark.parametrize("decoder", [name for name in SEGMENTERS if name != "dpt"])
def test_a_decoder_keeps_the_pretrained_module_and_its_weights(decoder):
    backbone = build_backbone("tu-resnet18" if decoder == "deeplabv3plus" else "resnet18")
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    assert SEGMENTERS[decoder](backbone, "resnet18", 1).encoder is backbone
    after = backbone.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(("decoder", "name"), [("deeplabv3plus", "cnn"), ("deeplabv3plus", "vgg11")])
def test_an_encoder_that_cannot_be_dilated_is_refused_by_name(decoder, name):
    with pytest.raises(UsageError, match=f"{decoder} needs .* that of {name} cannot: pass --decoder unet or fpn"):
        check_pair(decoder, name)


@pytest.mark.parametrize("name", ["mit_b0", "tu-convnext_atto"])
def test_unetplusplus_is_refused_where_there_is_nothing_at_stride_2(name):
    with pytest.raises(UsageError, match=f"unetplusplus needs features at stride 2, and {name} has none"):
        check_pair("unetplusplus", name)


@pytest.mark.parametrize("name", ["resnet18", "mit_b0", "tu-convnext_atto", "cnn"])
def test_dpt_is_refused_for_what_is_no_vision_transformer(name):
    with pytest.raises(UsageError, match=f"dpt is for vision transformers, and {name} is none"):
        check_pair("dpt", name)


@pytest.mark.parametrize("size", [32, 97, 224])
def test_of_patches_that_are_no_power_of_two_pictures_are_resized_inside_and_logits_back(size):
    check_pair("dpt", PATCH_14, image_size=size)
    model = build_dpt(build_backbone(PATCH_14), PATCH_14, 2).eval()
    images = torch.randn(1, 3, size, 70)
    inner = {32: 28, 97: 84, 224: 224}[size], 56  # 70 is two and a half times 28
    with torch.inference_mode():
        maps, tokens = smp.encoders.timm_vit.TimmViTEncoder.forward(
            model.encoder, F.interpolate(images, size=inner, mode="bilinear")
        )
        assert [tuple(features.shape[2:]) for features in maps] == [(inner[0] // 14, 4)] * 4
        logits = model.segmentation_head(model.decoder(maps, tokens))
        assert logits.shape[2:] == (inner[0] // 14 * 16, 64)
        assert torch.equal(model(images), F.interpolate(logits, size=(size, 70), mode="bilinear"))


@pytest.mark.parametrize("decoder", [name for name in SEGMENTERS if name != "dpt"])
def test_every_other_decoder_is_refused_for_a_vision_transformer(decoder):
    with pytest.raises(UsageError, match=f"--decoder {decoder} .* vit_b_16, a vision transformer.*pass --decoder dpt"):
        check_pair(decoder, "vit_b_16")


@pytest.mark.parametrize(
    ("decoder", "name", "size"),
    [("fpn", "resnet18", 250), ("unetplusplus", "resnet18", 250), ("dpt", "vit_b_16", 240), ("dpt", "vit_b_16", 250)],
)
def test_a_size_that_a_pair_cannot_take_is_refused_with_the_nearest(decoder, name, size):
    expected = f"--image-size {size} does not work .*multiple of 32: take 256 or 224"
    with pytest.raises(UsageError, match=expected) as error:
        check_pair(decoder, name, image_size=size)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("decoder", "name", "size"),
    [("unet", "resnet18", 250), ("unet", "mit_b0", 224), ("deeplabv3plus", "resnet50", 240), ("dpt", "vit_b_16", 224)],
)
def test_a_pair_that_works_is_accepted(decoder, name, size):
    check_pair(decoder, name, image_size=size)


@pytest.mark.parametrize(("decoder", "name"), [("dpt", "vit_b_16"), ("unet", "cnn")])
def test_twelve_bands_reach_every_kind_of_network(decoder, name):
    with torch.device("meta"):
        model = SEGMENTERS[decoder](build_backbone(name, in_channels=12), name, 1).eval()
        assert model(torch.zeros(1, 12, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(("name", "decoder"), [("vit_b_16", "dpt"), ("resnet50", "unet"), ("cnn", "unet")])
def test_the_default_decoder_suits_the_encoder(name, decoder):
    assert default_decoder(name) == decoder


def test_a_saved_transformer_with_dpt_comes_back(tmp_path):
    model = build_dpt(build_backbone(SMALL_VIT), SMALL_VIT, 1).eval()
    save_weights(tmp_path / "model.safetensors", model.state_dict(), described(encoder=SMALL_VIT, decoder="dpt"))
    loaded, _ = load_segmenter(tmp_path / "model.safetensors")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(images), model(images))


@pytest.mark.parametrize(("changes", "channels"), [({}, 1), ({"threshold": None, "classes": ("a", "b", "c")}, 3)])
def test_a_saved_network_comes_back_with_its_metadata(tmp_path, changes, channels):
    metadata = described(**changes)
    model = build_unet(build_backbone("resnet18"), "resnet18", channels).eval()
    save_weights(tmp_path / "model.safetensors", model.state_dict(), metadata)
    loaded, read = load_segmenter(tmp_path / "model.safetensors")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(images), model(images))
    assert read == metadata
    assert not loaded.training


def test_a_backbone_is_no_segmentation_network(tmp_path):
    path = tmp_path / "backbone.safetensors"
    save_weights(path, build_backbone("resnet18").state_dict(), described(task="backbone", decoder=None))
    with pytest.raises(WeightsError, match=r"no segmentation network.*task backbone.*simclrseg finetune"):
        load_segmenter(path)


def test_weights_that_contradict_their_metadata_are_refused_in_one_line(tmp_path):
    path = tmp_path / "model.safetensors"
    model = build_unet(build_backbone("resnet18"), "resnet18", 1)
    save_weights(path, model.state_dict(), described(encoder="resnet34"))
    with pytest.raises(WeightsError, match="does not match the network its metadata describe") as caught:
        load_segmenter(path)
    assert "\n" not in str(caught.value)


def test_a_misspelt_decoder_is_answered_with_the_nearest():
    assert SEGMENTERS["unet"] is build_unet
    with pytest.raises(UnknownName, match="did you mean 'unet'"):
        SEGMENTERS["unett"]
