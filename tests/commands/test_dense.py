"""Pretraining by dense contrast, and what fine-tuning takes of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import yaml
from safetensors.torch import load_file

from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import PretrainResult, pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.augment import STRENGTHS
from simclrseg.errors import UsageError
from simclrseg.knobs.knob import knobs_of
from simclrseg.knobs.parsing import parse_config
from simclrseg.models.backbones import build_backbone
from simclrseg.models.segmenters import build_unet
from simclrseg.models.weights import read_metadata
from simclrseg.runs.names import BACKBONE_FILE, MODEL_FILE
from simclrseg.weights.decoder import load_decoder
from simclrseg.weights.find import Pretrained
from tests.small import HARDWARE


def config(root: Path, **sections: dict[str, Any]) -> PretrainConfig:
    tree = {
        "data": {"dataset": "shapes", "image_size": 32, "max_images": 24},
        "model": {"method": "dense", "backbone": "resnet18"},
        "dense": {"projection_hidden": [16], "projection_dim": 8},
        "training": {"epochs": 1, "batch_size": 12},
        "hardware": HARDWARE,
        "console": {"runs": str(root)},
    }
    return parse_config(PretrainConfig, tree | {name: {**tree.get(name, {}), **own} for name, own in sections.items()})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> PretrainResult:
    return pretrain(config(tmp_path_factory.mktemp("runs")))


@pytest.fixture
def run(done: PretrainResult) -> Path:
    return done.run


def test_what_comes_next_begins_with_the_decoder_too(done: PretrainResult) -> None:
    runs = done.run.parents[1]
    assert done.next == f"simclrseg finetune --pretrained shapes-dense --init-decoder --runs {runs}"
    assert "--init-decoder" in (done.run / "README.md").read_text()


def test_a_run_leaves_the_encoder_the_network_and_what_it_saw(run: Path) -> None:
    assert run.name == "shapes-dense"
    encoder, whole = load_file(run / BACKBONE_FILE), load_file(run / MODEL_FILE)
    torch.nn.Module.load_state_dict(build_backbone("resnet18"), encoder, strict=True)
    assert all(torch.equal(tensor, whole[f"encoder.{key}"]) for key, tensor in encoder.items())
    assert {key.split(".")[0] for key in whole} == {"encoder", "decoder", "projection_head", "place_head"}
    metadata = [read_metadata(run / file) for file in (BACKBONE_FILE, MODEL_FILE)]
    assert [each.task for each in metadata] == ["backbone", "dense"]
    assert [each.decoder for each in metadata] == [None, "unet"]
    assert {"knn", "loss", "chance", "dense_top1", "dense_top1_chance"} <= metadata[0].metrics.keys()
    assert "dense_top1_chance" in (run / "metrics.csv").read_text()
    card = (run / "README.md").read_text()
    assert "pretrained with Dense contrast" in card
    assert "| places | 32 of each photo, contrasted with 4,096 of others at most; 50% of the loss |" in card
    assert "| temperature | 0.1, of places 0.2 |" in card


def test_the_views_of_a_run_show_places_in_pure_colours(run: Path) -> None:
    picture = cv2.imread(str(run / "augmentations.png"))[:, :, ::-1]
    for row in (picture[: len(picture) // 2], picture[len(picture) // 2 :]):
        assert (row == (255, 220, 0)).all(2).any() and (row == (0, 230, 230)).all(2).any()


def small_finetune(run: Path, **model: Any) -> FinetuneConfig:
    return parse_config(
        FinetuneConfig,
        {
            "data": {"dataset": "shapes", "image_size": 32, "data_ratio": 0.1},
            "model": {"pretrained": str(run), **model},
            "training": {"epochs": 1, "batch_size": 8},
            "hardware": HARDWARE,
            "console": {"runs": str(run.parents[1])},
        },
    )


@pytest.mark.usefixtures("unexported")
def test_finetuning_starts_the_whole_network_and_leaves_the_heads_behind(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="simclrseg"):
        tuned = finetune(small_finetune(run, init_decoder=True)).run
    report = json.loads((tuned / "load_report.json").read_text())
    assert report["loaded"] == report["total"] and report["decoder"]["loaded"] == report["decoder"]["total"] > 20
    assert {key.split(".")[0] for key in report["decoder"]["left_out"]} == {"encoder", "projection_head", "place_head"}
    assert "decoder of" in caplog.text and "the last layer is new" in caplog.text


def test_the_loaded_decoder_is_the_one_that_was_trained(run: Path) -> None:
    torch.manual_seed(3)
    model = build_unet(build_backbone("resnet18"), "resnet18", 3)
    load_decoder(model, Pretrained("x", run / BACKBONE_FILE), decoder="unet")
    whole = load_file(run / MODEL_FILE)
    assert all(torch.equal(tensor, whole[f"decoder.{key}"]) for key, tensor in model.decoder.state_dict().items())


def test_its_defaults_are_those_of_its_recipe_and_its_own_knobs_are_keys_alone() -> None:
    plain = parse_config(PretrainConfig, {"data": {"dataset": "shapes"}, "model": {"method": "dense"}})
    assert (plain.training.optimizer, plain.training.peak_rate, plain.training.weight_decay) == ("adamw", 1e-3, 1e-4)
    assert (plain.training.batch_size, plain.training.epochs, plain.data.image_size) == (256, 200, 128)
    strengths = STRENGTHS[plain.data.augmentation]
    assert strengths.crop_scale == (0.2, 1.0) and (strengths.brightness, strengths.hue) == (0.4, 0.1)
    own = {knob.name for knob in knobs_of(PretrainConfig) if knob.path[0] == "dense" and not knob.spellings}
    assert own == {"dense_weight", "dense_temperature", "places", "negatives", "apart", "overlap"}


def test_a_temperature_is_for_images_as_in_simclr_and_is_kept_with_the_run(run: Path) -> None:
    warm = parse_config(
        PretrainConfig, {"data": {"dataset": "shapes"}, "model": {"method": "dense"}, "temperature": 0.4}
    )
    assert (warm.method.temperature, warm.simclr.temperature) == (0.4, 0.1)
    tree = yaml.safe_load((run / "config.yaml").read_text())
    assert tree["dense"]["temperature"] == 0.1 and "simclr" not in tree


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"dense_weight": 1.5}, "dense_weight 1.5: must be"),
        ({"dense_temperature": 0.001}, "dense_temperature: 0.001 is too low"),
        ({"places": 0}, "places 0: must be"),
        ({"negatives": 0}, "negatives 0: must be"),
        ({"apart": 0}, "apart 0: must be"),
        ({"overlap": 2}, "overlap 2: must be"),
    ],
)
def test_values_out_of_range_are_named(knobs: dict[str, float], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        config(tmp_path, dense=knobs)


def test_a_stem_that_the_decoder_cannot_stand_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="stem cifar does not go with method dense"):
        config(tmp_path, model={"stem": "cifar"})


def test_an_encoder_that_no_unet_stands_on_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--method dense trains a decoder too.*vit_b_16, a vision tr.* --backbone, as"
    ):
        pretrain(config(tmp_path, model={"backbone": "vit_b_16"}))
    assert list(tmp_path.iterdir()) == []
