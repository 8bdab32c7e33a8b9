"""Where pretraining starts from: the stem, and the weights of --init."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import load_file, save

from simclrseg.commands.finetune import finetune
from simclrseg.commands.prepare_pretrain import starting_backbone, starting_weights
from simclrseg.commands.pretrain import pretrain
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.errors import HubError, UsageError
from simclrseg.hub.imagenet import IMAGENET
from simclrseg.knobs.parsing import parse_config
from simclrseg.metadata import RGB
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import read_metadata


def config(root, *, size: int = 32, name: str = "small", dry: bool = False, **model) -> PretrainConfig:
    tree = {
        "data": {"dataset": "shapes", "image_size": size},
        "model": {"backbone": "resnet18", **model},
        "training": {"batch_size": 256, "micro_batch": 8, "epochs": 1},
        "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
        "run": {"name": name, "dry_run": dry},
        "console": {"runs": str(root)},
    }
    return parse_config(PretrainConfig, tree)


def start(asked: PretrainConfig):
    """The encoder, its stem, and what its weights are called."""
    init = starting_weights(asked)
    return (*starting_backbone(asked, init, RGB), init.label)


@pytest.fixture(scope="module")
def small_pictures(tmp_path_factory):
    """A run on 32 px, of two photos a batch and one step."""
    from simclrseg.commands import prepare_pretrain

    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        full = prepare_pretrain.images_to_train_on
        patch.setattr(prepare_pretrain, "images_to_train_on", lambda *a, **k: (full(*a, **k)[0], list(range(4))))
        asked = config(root)
        pretrain(
            asked.model_copy(update={"training": asked.training.model_copy(update={"batch_size": 4, "micro_batch": 2})})
        )
    return root


def test_small_pictures_get_the_cifar_stem_and_the_file_loads_everywhere(small_pictures):
    weights = small_pictures / "pretrain/small/backbone.safetensors"
    metadata = read_metadata(weights)
    assert metadata is not None
    assert metadata.stem == "cifar"
    torch.nn.Module.load_state_dict(build_backbone("resnet18"), load_file(weights), strict=True)


def test_our_own_pretraining_goes_on_with_the_stem_of_the_file(small_pictures):
    backbone, stem, init = start(config(small_pictures, size=224, init="small"))
    assert (stem, init) == ("cifar", "small")
    assert backbone.conv1.kernel_size == (3, 3)
    stored = load_file(small_pictures / "pretrain/small/backbone.safetensors")["conv1.weight"]
    assert torch.equal(backbone.conv1.weight, stored[:, :, 2:5, 2:5])


@pytest.mark.usefixtures("short_dry_runs")
def test_fine_tuning_says_that_early_features_change(small_pictures, caplog):
    tree = {
        "data": {"dataset": "shapes", "image_size": 32, "data_ratio": 0.1},
        "model": {"pretrained": "small"},
        "training": {"batch_size": 4, "epochs": 1},
        "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
        "run": {"dry_run": True},
        "console": {"runs": str(small_pictures)},
    }
    finetune(parse_config(FinetuneConfig, tree))
    (line,) = [line for line in caplog.messages if "CIFAR stem" in line]
    assert "stride 2 and max-pool come back" in line
    assert "early features change" in line


def test_a_method_that_needs_the_usual_stem_says_that_strides_come_back(small_pictures, caplog):
    backbone, stem, _ = start(config(small_pictures, init="small", method="reconstruction"))
    assert stem == "imagenet" and backbone.conv1.kernel_size == (7, 7)
    assert "small was pretrained with the CIFAR stem: stride 2 and max-pool come back here" in caplog.messages


def test_weights_of_another_encoder_are_refused(small_pictures):
    asked = config(small_pictures, init="small", backbone="resnet34")
    with pytest.raises(UsageError, match="--init small is a resnet18: pass --backbone resnet18"):
        start(asked)


def test_an_unknown_name_is_named_by_its_option(tmp_path):
    with pytest.raises(Exception, match="--init nobody: no such run"):
        start(config(tmp_path, init="nobody"))


def test_a_foreign_stem_is_fitted_when_asked(tmp_path, caplog):
    state = build_backbone("resnet18").state_dict()
    small = state["conv1.weight"] = torch.randn(64, 3, 3, 3)
    torch.save({"state_dict": state}, tmp_path / "cifar.pth")
    begin = {"init": str(tmp_path / "cifar.pth"), "stem": "imagenet"}
    start(config(tmp_path, **begin))
    assert "conv1.weight (64, 3, 3, 3) for (64, 3, 7, 7): stays random" in caplog.text
    backbone, _, _ = start(config(tmp_path, **begin, adapt=["stem"]))
    assert torch.equal(backbone.conv1.weight[:, :, 2:5, 2:5], small)


@pytest.fixture
def imagenet(tmp_path, fake_hub):
    """smp's published file, which has the classifier too."""
    torch.manual_seed(5)
    source = build_backbone("resnet18")
    state = {**source.state_dict(), "fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    files = {"model.safetensors": save(state), "config.json": b'{"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}'}
    fake_hub.add("smp-hub/resnet18.imagenet", files, commit=IMAGENET["resnet18"])
    return source


def test_imagenet_weights_are_loaded_and_their_stem_stays(tmp_path, imagenet, caplog):
    caplog.set_level(logging.INFO, "simclrseg")
    backbone, stem, init = start(config(tmp_path, init="imagenet"))
    assert (stem, init) == ("imagenet", "imagenet")
    assert torch.equal(backbone.conv1.weight, imagenet.conv1.weight)
    assert "converted: loaded 120 of 120 tensors; left out: fc" in caplog.messages
    assert "imagenet: loaded 120 of 120 tensors" in caplog.messages


@pytest.mark.usefixtures("short_dry_runs")
def test_imagenet_weights_serve_fine_tuning_too(tmp_path, imagenet, caplog):
    caplog.set_level(logging.INFO, "simclrseg")
    tree = {
        "data": {"dataset": "shapes", "image_size": 32, "data_ratio": 0.1},
        "model": {"pretrained": "imagenet", "backbone": "resnet18"},
        "training": {"batch_size": 4, "epochs": 1},
        "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
        "run": {"dry_run": True},
        "console": {"runs": str(tmp_path)},
    }
    finetune(parse_config(FinetuneConfig, tree))
    assert any(line.startswith("imagenet: loaded ") for line in caplog.messages)


def test_no_network_is_one_line(tmp_path, fake_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="imagenet is not in the cache") as error:
        start(config(tmp_path, init="imagenet"))
    assert "\n" not in str(error.value)
