"""Models of many pictures as starts by name: what they are, what is fetched, said and kept, and what they become."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save

import simclrseg
from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import pretrain
from simclrseg.commands.pull import pull
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.config.pull import PullConfig
from simclrseg.errors import UsageError
from simclrseg.hub.imagenet import IMAGENET
from simclrseg.hub.table import FOUNDATIONS, encoders_of, find
from simclrseg.inference.session import open_model
from simclrseg.knobs.parsing import parse_config
from simclrseg.models.backbones import build_backbone, pooled_features
from simclrseg.models.weights import read_metadata
from simclrseg.runs.names import RESERVED
from tests.fake_hub import FakeHub
from tests.folders import write_noise
from tests.small import HARDWARE, SMALL_PRETRAIN, in_runs

ENTRIES = [entry for entries in FOUNDATIONS.values() for entry in entries]
VIT = "tu-vit_small_patch14_reg4_dinov2"


def publish(hub: FakeHub, name: str, encoder: str | None = None) -> dict[str, torch.Tensor]:
    """Upload random weights of a model, as timm does; they are returned."""
    entry = find(name, encoder=encoder)
    torch.manual_seed(1)
    model = timm.create_model(entry.repo, num_classes=0)
    state = {key: 0.02 * torch.randn_like(tensor) + tensor for key, tensor in model.state_dict().items()}
    hub.add(entry.source().repo_id, {"model.safetensors": save(state)})
    return state


def finetuning(runs: Path, folder: Path, *, image_size: int = 36, **model: Any) -> FinetuneConfig:
    tree = {
        "data": {"dataset": str(folder), "image_size": image_size},
        "model": {key: value for key, value in model.items() if key != "decoder"},
        "segment": {"decoder": model.get("decoder"), "examples_every": 0},
        "training": {"epochs": 1, "batch_size": 4},
        "hardware": HARDWARE,
        "console": {"runs": str(runs)},
    }
    return parse_config(FinetuneConfig, tree)


def pretraining(runs: Path, **model: Any) -> PretrainConfig:
    tree = in_runs(SMALL_PRETRAIN, runs) | {"model": model, "training": {"epochs": 1, "batch_size": 8}}
    tree["data"] = {**tree["data"], "max_images": 8}
    tree["run"] = {"knn_every": 0}
    return parse_config(PretrainConfig, tree)


def test_their_names_are_no_names_of_runs() -> None:
    assert {*RESERVED} == {"none", "imagenet", *FOUNDATIONS}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.repo)
def test_what_is_noted_of_them_is_what_timm_says(entry: Any) -> None:
    said = timm.get_pretrained_cfg(entry.repo)
    assert (said.hf_hub_id, said.license) == (entry.source().repo_id, entry.licence)
    assert (said.mean, said.std, said.num_classes) == (entry.mean, entry.std, said.num_classes)
    assert timm.is_model(entry.repo) and entry.encoder == f"tu-{entry.repo.partition('.')[0]}"


def test_they_are_listed_as_what_they_are(fake_hub: FakeHub) -> None:
    rows = {row["name"]: row for row in pull(PullConfig()).published}
    assert rows["dinov2"]["encoder"] == f"{VIT}, or 2 others"
    for name, licence, dataset in (("dinov2", "apache-2.0", "LVD-142M"), ("dinov3", "dinov3-license", "LVD-1689M")):
        row = rows[name]
        assert (row["method"], row["dataset"], row["licence"]) == (f"{name}, self-supervised", dataset, licence)
        assert (row["status"], row["made with"]) == ("published", None)
    assert fake_hub.requests == []


@pytest.mark.parametrize(("name", "encoder"), [("dinov2", VIT), ("dinov3", "tu-vit_small_patch16_dinov3")])
def test_a_fetched_transformer_sees_what_timms_sees(name: str, encoder: str, fake_hub: FakeHub, tmp_path: Path) -> None:
    state = publish(fake_hub, name, encoder)
    backbone = simclrseg.load_backbone(name, runs=tmp_path, encoder=encoder)
    theirs = timm.create_model(encoder.removeprefix("tu-"), num_classes=0, dynamic_img_size=True).eval()
    theirs.load_state_dict(state)
    images = torch.randn(1, 3, 112, 112)  # of other size than the position embeddings of 518 px
    with torch.inference_mode():
        torch.testing.assert_close(pooled_features(backbone, images), theirs(images))
    assert backbone.std == (0.229, 0.224, 0.225)


def test_a_fetched_convnext_sees_what_timms_sees_and_its_licence_is_kept(fake_hub: FakeHub, tmp_path: Path) -> None:
    state = publish(fake_hub, "dinov3")
    file = pull(parse_config(PullConfig, {"source": {"name": "dinov3"}})).file
    metadata = read_metadata(file)
    assert (metadata.encoder, metadata.method, metadata.dataset) == ("tu-convnext_tiny", "dinov3", "LVD-1689M")
    assert metadata.terms == ("dinov3-license (timm/convnext_tiny.dinov3_lvd1689m)",)
    backbone = simclrseg.load_backbone("dinov3", runs=tmp_path)
    theirs = timm.create_model("convnext_tiny", num_classes=0).eval()
    theirs.load_state_dict(state)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        whole = theirs.norm_pre(theirs.stages(theirs.stem(images)))
        torch.testing.assert_close(backbone(images)[-1], whole)


def test_of_several_encoders_the_first_is_taken_that_the_decoder_can_stand_on(
    fake_hub: FakeHub, tmp_path: Path
) -> None:
    assert encoders_of("dinov3")[:2] == ("tu-convnext_tiny", "tu-vit_small_patch16_dinov3")
    folder = write_noise(tmp_path / "few", 4)
    for decoder, file in (("fpn", "convnext_tiny.dinov3"), ("dpt", "vit_small_patch16_dinov3")):
        with pytest.raises(simclrseg.errors.HubError, match=f"timm/{file}"):
            finetune(finetuning(tmp_path, folder, image_size=64, pretrained="dinov3", decoder=decoder))
    with pytest.raises(UsageError, match=f"--decoder unet needs feature maps of five sizes, and those of {VIT}"):
        finetune(finetuning(tmp_path, folder, pretrained="dinov2", decoder="unet"))


def test_another_encoder_than_theirs_is_refused_before_anything_is_fetched(fake_hub: FakeHub, tmp_path: Path) -> None:
    remedy = f"not a resnet18: pass --backbone {VIT}"
    with pytest.raises(UsageError, match=remedy):
        pretrain(pretraining(tmp_path / "runs", backbone="resnet18", init="dinov2"))
    with pytest.raises(
        UsageError, match="are not imagenet's but those of dinov2: take dinov2 in the place of imagenet"
    ):
        find("imagenet", encoder=VIT)
    assert find("dinov3", encoder="tu-convnext_tiny.dinov3_lvd1689m") == find("dinov3")
    assert fake_hub.requests == []


@pytest.mark.slow
def test_masks_are_learned_from_dinov2_at_any_size_and_its_licence_stands_in_the_card(
    fake_hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(fake_hub, "dinov2")
    caplog.set_level(logging.INFO, "simclrseg")
    folder = write_noise(tmp_path / "few", 12)
    result = finetune(finetuning(tmp_path / "runs", folder, pretrained="dinov2"))
    said = [line for line in caplog.messages if line.startswith("dinov2:") and "licence" in line]
    assert len(said) == 1 and "self-supervised on LVD-142M; its licence, apache-2.0" in said[0]
    assert result.run.name == "few-dinov2"
    metadata = read_metadata(result.model)
    assert (metadata.encoder, metadata.decoder, metadata.image_size) == (VIT, "dpt", 36)
    assert open_model(result.onnx, "cpu").metadata.checks["mask_agreement"] >= 0.999
    card = (result.run / "README.md").read_text()
    assert "the weights that it was made of: apache-2.0 (timm/vit_small_patch14_reg4_dinov2.lvd142m)" in card


@pytest.mark.slow
def test_pretraining_goes_on_from_dinov2_and_its_file_is_timms(fake_hub: FakeHub, tmp_path: Path) -> None:
    publish(fake_hub, "dinov2")
    result = pretrain(pretraining(tmp_path / "runs", backbone=VIT, init="dinov2"))
    timm.create_model(VIT.removeprefix("tu-"), num_classes=0).load_state_dict(load_file(result.backbone), strict=True)
    metadata = read_metadata(result.backbone)
    assert (metadata.pretrained, metadata.mean) == ("dinov2", (0.485, 0.456, 0.406))
    assert metadata.terms == ("apache-2.0 (timm/vit_small_patch14_reg4_dinov2.lvd142m)",)


def test_pretraining_goes_on_from_imagenet(fake_hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "simclrseg")
    state = build_backbone("resnet18").state_dict()
    files = {"model.safetensors": save(state), "config.json": b'{"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}'}
    fake_hub.add("smp-hub/resnet18.imagenet", files, commit=IMAGENET["resnet18"])
    result = pretrain(pretraining(tmp_path / "runs", backbone="resnet18", init="imagenet"))
    assert "imagenet: loaded 120 of 120 tensors" in caplog.text
    assert read_metadata(result.backbone).mean == (0.5, 0.5, 0.5)
    assert not re.search("random weights", caplog.text)
    pretrain(pretraining(tmp_path / "runs", backbone="resnet18"))
    assert len(re.findall("random weights suit pictures unlike photos.*--init imagenet", caplog.text)) == 1
