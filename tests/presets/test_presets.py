"""Files behind --config."""

from __future__ import annotations

import pytest
import yaml

from simclrseg.config import FinetuneConfig, PretrainConfig
from simclrseg.errors import UsageError
from simclrseg.knobs import parse_config, parse_config_file
from simclrseg.presets import PRESETS, find_preset, load_preset


def test_another_commands_file_is_refused():
    with pytest.raises(UsageError, match="is for `simclrseg pretrain`, not for `simclrseg finetune`"):
        load_preset("simclr_pets", "finetune")


def test_a_misspelt_preset_gets_a_suggestion():
    with pytest.raises(UsageError, match="unknown preset 'simclr_pet': did you mean 'simclr_pets'"):
        load_preset("simclr_pet", "pretrain")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"x\.yaml: there is no such file; presets are "):
        load_preset(str(tmp_path / "x.yaml"), "pretrain")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {", r"x\.yaml, line 1, column \d+: not YAML"),
        ("data:\n\tx: 1", r"x\.yaml, line 2, column 1: not YAML"),
        ("- a\n- b", "must hold sections of keys"),
        ("", "add the line `command: pretrain`"),
        ("data: {}", "add the line `command: pretrain`"),
        ("command: finetune", "is for `simclrseg finetune`"),
    ],
)
def test_what_is_no_config_file_gets_one_line(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        load_preset(str(tmp_path / "x.yaml"), "pretrain")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text_gets_one_line(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UsageError, match="not YAML"):
        load_preset(str(tmp_path / "x.yaml"), "pretrain")


def test_a_runs_folder_stands_for_its_config(tmp_path):
    (tmp_path / "config.yaml").write_text("command: pretrain\n")
    assert find_preset(str(tmp_path)) == tmp_path / "config.yaml"
    assert load_preset(str(tmp_path), "pretrain") == {}


def resolved(config) -> dict:
    """What a configuration comes to: a rate that was left to the optimizer is the optimizer's."""
    tree = config.model_dump()
    tree["training"]["learning_rate"] = config.training.peak_rate
    return tree


def test_the_defaults_of_pretrain_are_those_of_simclr_pets():
    preset = parse_config_file(PretrainConfig, "simclr_pets")
    defaults = parse_config(PretrainConfig, {"data": {"dataset": ["cats_vs_dogs"]}})
    assert resolved(preset) == resolved(defaults)


def test_the_defaults_of_finetune_are_those_of_pets_segmentation_but_for_the_random_split():
    preset = resolved(parse_config_file(FinetuneConfig, "pets_segmentation"))
    assert preset["data"].pop("test_split") == "random" and preset["training"].pop("loss") == "bce"
    defaults = resolved(FinetuneConfig())
    assert defaults["data"].pop("test_split") == "official"
    assert defaults["training"].pop("loss") is None  # which is bce for two classes
    assert preset == defaults


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_says_where_it_comes_from(name):
    text = PRESETS[name].read_text()
    models = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}
    command = yaml.safe_load(text)["command"]
    assert parse_config_file(models[command], name)
    assert "# Source:" in text and f"# Run: simclrseg {command} --config {name}" in text
