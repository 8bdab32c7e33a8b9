"""A vision transformer from photos to masks, and what is refused at the door."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import timm
from safetensors.torch import load_file

from simclrseg.commands import prepare_finetune
from simclrseg.commands.finetune import finetune
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.errors import UsageError
from simclrseg.inference.session import open_model
from simclrseg.models.weights import read_metadata
from simclrseg.training.knobs import TrainingRun
from tests.folders import write_noise
from tests.small import SMALL_FINETUNE, SMALL_PRETRAIN, in_runs

NAME = "test_vit"  # the smallest of timm


def pretraining(runs: Path, **model) -> PretrainConfig:
    tree = in_runs(SMALL_PRETRAIN, runs) | {"model": model, "training": {"epochs": 1, "batch_size": 64}}
    tree["data"] = {**tree["data"], "max_images": 64}
    tree["run"] = {"knn_every": 0}
    return PretrainConfig.model_validate(tree)


def finetuning_of(
    runs: Path, *, dataset: str = "shapes", image_size: int = 32, decoder: str | None = None, **model
) -> FinetuneConfig:
    tree = in_runs(SMALL_FINETUNE, runs) | {"model": model, "training": {"epochs": 1, "batch_size": 8}}
    tree["segment"] = {"decoder": decoder}
    tree["data"] = {"dataset": dataset, "image_size": image_size, "data_ratio": 0.1 if dataset == "shapes" else 1}
    return FinetuneConfig.model_validate(tree)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """The folder of runs that holds a transformer, pretrained for an epoch."""
    runs = tmp_path_factory.mktemp("vit") / "runs"
    pretrain(pretraining(runs, backbone=f"tu-{NAME}"))
    return runs


def test_a_pretrained_transformer_loads_strictly_in_timm(pretrained):
    model = timm.create_model(NAME, num_classes=0)
    model.load_state_dict(load_file(pretrained / "pretrain" / "shapes" / "backbone.safetensors"), strict=True)


@pytest.mark.usefixtures("short_dry_runs")
def test_it_is_segmented_through_dpt_by_default_and_a_line_says_so(pretrained, caplog):
    config = finetuning_of(pretrained, pretrained="shapes")
    with caplog.at_level(logging.INFO):
        assert finetune(config.model_copy(update={"run": TrainingRun(dry_run=True)}))
    assert f"tu-{NAME} is a vision transformer, whose masks come from dpt (--decoder)" in caplog.messages
    assert "loaded 78 of 78 tensors" in caplog.text


@pytest.mark.slow
def test_a_fine_tuned_transformer_is_exported_for_pictures_of_any_size(pretrained, tmp_path):
    few = write_noise(tmp_path / "few", 20)  # the test images of shapes take longer than all else
    result = finetune(finetuning_of(pretrained, dataset=str(few), pretrained="shapes"))
    assert read_metadata(result.model).decoder == "dpt"
    opened = open_model(result.onnx, "cpu")
    assert opened.metadata.checks["mask_agreement"] >= 0.999
    session = opened.session
    for shape in [(64, 64), (90, 131), (20, 40)]:
        images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
        probability, mask = session.run(["probability", "mask"], {"image": images})
        assert probability.shape == mask.shape == (2, *shape)
        assert ((probability > 0.5) == mask).all() and probability.std() > 0


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ({"backbone": "resnet18", "decoder": "dpt"}, 64, "dpt is for vision transformers, and resnet18 is none"),
        ({"backbone": "mit_b0", "decoder": "unetplusplus"}, 64, "unetplusplus needs features at stride 2, and mit_b0"),
        ({"backbone": "vit_b_16", "decoder": "unet"}, 64, "vit_b_16, a vision transformer.*pass --decoder dpt"),
        ({"backbone": "vit_b_16"}, 100, "--image-size 100 does not work with --decoder dpt.*take 128 or 96"),
        ({"pretrained": "imagenet", "decoder": "dpt"}, 64, "resnet50 is none"),
    ],
)
def test_a_pair_that_cannot_work_is_refused_before_anything_starts(tmp_path, monkeypatch, model, size, message):
    monkeypatch.setattr(prepare_finetune, "find_pretrained", None)  # what would fetch weights is never called
    with pytest.raises(UsageError, match=message):
        finetune(finetuning_of(tmp_path / "runs", image_size=size, **model))
    assert not list(tmp_path.iterdir())


def test_pretraining_refuses_a_side_that_patches_do_not_fill_and_leaves_nothing(tmp_path):
    config = pretraining(tmp_path / "runs", backbone="vit_b_16", init="imagenet")
    config = config.model_copy(update={"data": config.data.model_copy(update={"image_size": 100})})
    with pytest.raises(UsageError, match=r"--image-size 100: vit_b_16 cuts .* multiple of 16: take 112 or 96"):
        pretrain(config)
    assert not list(tmp_path.iterdir())
