"""Files behind --config."""

from __future__ import annotations

import pytest

from simclrseg import config
from simclrseg.errors import UsageError
from simclrseg.knobs import parse_config_file
from simclrseg.presets import PRESETS, find_preset, load_preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_config_of_its_command(name):
    import yaml

    command = yaml.safe_load(PRESETS[name].read_text())["command"]
    parse_config_file(getattr(config, f"{command.capitalize()}Config"), name)


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
