"""Names in the spelling of papers, of other tools and of haste."""

from __future__ import annotations

import shlex

import pytest
import yaml

from simclrseg.cli.app import main
from simclrseg.config import CONFIGS
from simclrseg.config.files import PRESETS, find_preset
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets import DATASETS
from simclrseg.errors import UsageError
from simclrseg.knobs.knob import knobs_of
from simclrseg.knobs.parsing import parse_config, stored_values
from simclrseg.models import BACKBONES
from simclrseg.registry import canonical


@pytest.mark.parametrize(
    ("typed", "key", "stored"),
    [
        ("--loss BCE", "segment.loss", "bce"),
        ("--loss Focal:3+Dice", "segment.loss", "focal:3+dice"),
        ("--loss 'BCE + Dice'", "segment.loss", "bce+dice"),
        ("--decoder U-Net", "segment.decoder", "unet"),
        ("--decoder UNet++", "segment.decoder", "unetplusplus"),
        ("--decoder DeepLabV3+", "segment.decoder", "deeplabv3plus"),
        ("--backbone resnet-18", "model.backbone", "resnet18"),
        ("--backbone EfficientNet_B0", "model.backbone", "efficientnet-b0"),
        ("--optimizer ADAM", "training.optimizer", "adam"),
        ("--schedule OneCycle", "training.schedule", "one-cycle"),
        ("--dataset Oxford-Pets", "data.dataset", "oxford_pets"),
        ("--unlabelled Cats-vs-Dogs", "data.unlabelled", ["cats_vs_dogs"]),
        ("--task Classify --dataset EuroSAT", "data.dataset", "eurosat"),
        ("--border BACKGROUND", "data.border", "background"),
        ("--masks Inverted+Folder:Left_Masks", "data.masks", "inverted+folder:Left_Masks"),
        ("--normalization ImageNet", "data.normalization", "imagenet"),
        ("--pretrained DINO-v2", "model.pretrained", "dinov2"),
        ("--epochs AUTO --log TensorBoard", "run.log", ["tensorboard"]),
        ("--device CPU", "hardware.device", "cpu"),
    ],
)
def test_a_name_in_another_spelling_is_stored_as_the_table_has_it(capsys, typed, key, stored):
    with pytest.raises(SystemExit) as end:
        main(["finetune", *shlex.split(typed), "--print-config"])
    assert end.value.code == 0
    section, name = key.split(".")
    assert yaml.safe_load(capsys.readouterr().out)[section][name] == stored


def test_a_method_in_another_spelling_brings_its_own_defaults_and_knobs(capsys):
    configs = [
        parse_config(PretrainConfig, {"data": {"dataset": "shapes"}, "model": {"method": name}, "temperature": 0.3})
        for name in ("dense", "Dense")
    ]
    assert configs[0] == configs[1] and configs[1].method.temperature == 0.3


def test_no_two_choices_of_a_knob_are_the_same_but_for_their_spelling():
    lists = [[str(one) for one in knob.values.choices] for model in CONFIGS.values() for knob in knobs_of(model)]
    for names in [*lists, BACKBONES, PRESETS, DATASETS]:
        assert all(canonical(name.upper().replace("_", "-"), names) == name for name in names)


def test_what_could_be_two_names_is_none_of_them():
    assert canonical("a-b", ["a_b", "AB"]) == "a-b"
    assert canonical("AB", ["a_b", "AB"]) == "AB"


def test_a_folder_that_bears_the_name_as_it_was_typed_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EuroSAT").mkdir()
    config = parse_config(FinetuneConfig, {"data": {"dataset": "EuroSAT"}})
    assert stored_values(config)["data"]["dataset"] == "EuroSAT"


def test_a_preset_in_another_spelling_is_found():
    assert find_preset("SimCLR-Pets") == PRESETS["simclr_pets"]


def test_a_name_that_is_none_in_any_spelling_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="'ResNet-99' is not a backbone: did you mean 'resnet"):
        parse_config(FinetuneConfig, {"model": {"backbone": "ResNet-99"}})
