"""Segmentation networks around a given encoder, and out of a file."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch

from simclrseg.errors import UnknownName, WeightsError
from simclrseg.metadata import ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import build_backbone
from simclrseg.models.segmenters import build_unet, load_segmenter
from simclrseg.models.weights import save_weights


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


@pytest.mark.parametrize("name", ["resnet18", "mit_b0", "vgg11", "tu-convnext_atto"])
def test_the_unet_is_smps_own_key_for_key_and_output_for_output(name):
    ours = build_unet(build_backbone(name), name, 3).eval()
    theirs = smp.Unet(name, encoder_weights=None, classes=3).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))
    assert {key.partition(".")[0] for key in ours.state_dict()} == {"encoder", "decoder", "segmentation_head"}


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
