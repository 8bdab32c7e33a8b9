"""Files behind --config."""

from __future__ import annotations

import os
import threading

import pytest
import yaml

from simclrseg.config.files import PRESETS, find_preset, presets_of
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import PretrainConfig, command_that_makes
from simclrseg.errors import UsageError
from simclrseg.knobs.parsing import parse_config, parse_config_file, read_config_file

STARTS = ("reconstruction", "none", "library")
MODELS = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}
PRETRAININGS = {name: parse_config_file(PretrainConfig, PRESETS[name]) for name in presets_of("pretrain")}
FINETUNINGS = {name: parse_config_file(FinetuneConfig, PRESETS[name]) for name in presets_of("finetune")}


def test_another_commands_file_is_refused():
    with pytest.raises(UsageError, match="is for `simclrseg pretrain`, not for `simclrseg finetune`"):
        read_config_file(find_preset("simclr_pets"), "finetune")


def test_a_misspelt_preset_gets_a_suggestion():
    with pytest.raises(UsageError, match="unknown preset 'simclr_pet': did you mean 'simclr_pets'"):
        read_config_file(find_preset("simclr_pet"), "pretrain")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"x\.yaml: no such file; presets are "):
        read_config_file(find_preset(str(tmp_path / "x.yaml")), "pretrain")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {", r"x\.yaml, line 1, column \d+: not YAML"),
        ("data:\n\tx: 1", r"x\.yaml, line 2, column 1: not YAML .*: indent with spaces, not with a tab$"),
        ("data: {}\ndata: {}", r"x\.yaml, line 2, column 1: it names 'data' twice"),
        ("- a\n- b", "must hold sections of keys"),
        ("", r"x\.yaml holds no keys: write some, such as `data:`"),
        ("data: {}", "does not say which command it is for: one for `simclrseg pretrain` has the line `command: pret"),
        ("command: finetune", "is for `simclrseg finetune`"),
    ],
)
def test_what_is_no_config_file_gets_one_line(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        read_config_file(find_preset(str(tmp_path / "x.yaml")), "pretrain")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_text_gets_one_line(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UsageError, match="UTF-16 or UTF-32: save it as UTF-8"):
        read_config_file(find_preset(str(tmp_path / "x.yaml")), "pretrain")


def test_a_pipe_is_read_once_and_a_device_never(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=("command: pretrain\ndata: {image_size: 64}\n",)).start()
    assert read_config_file(find_preset(str(pipe)), "pretrain") == {"data": {"image_size": 64}}
    with pytest.raises(UsageError, match=r"--config /dev/zero: it is a device, not a file; presets are "):
        read_config_file(find_preset("/dev/zero"), "pretrain")


def test_a_runs_folder_stands_for_its_config(tmp_path):
    (tmp_path / "config.yaml").write_text("command: pretrain\n")
    assert find_preset(str(tmp_path)) == tmp_path / "config.yaml"
    assert read_config_file(find_preset(str(tmp_path)), "pretrain") == {}


def resolved(config) -> dict:
    """What a configuration comes to: a rate that was left to the optimizer is the optimizer's."""
    tree = config.model_dump()
    tree["training"]["learning_rate"] = config.training.peak_rate
    return tree


def test_the_defaults_of_pretrain_are_those_of_simclr_pets():
    preset = parse_config_file(PretrainConfig, PRESETS["simclr_pets"])
    defaults = parse_config(PretrainConfig, {"data": {"dataset": ["cats_vs_dogs"]}})
    assert resolved(preset) == resolved(defaults)


RECIPE = {
    "data": {"augmentation"},
    "training": {"optimizer", "learning_rate", "schedule", "weight_decay", "epochs", "batch_size", "ema"},
}


@pytest.mark.parametrize("name", FINETUNINGS)
def test_a_preset_of_finetune_names_its_whole_recipe_whatever_the_defaults_become(name):
    tree = read_config_file(find_preset(name), "finetune")
    assert all(keys <= set(tree[section]) for section, keys in RECIPE.items())
    assert "encoder_lr_factor" in tree["training"] or tree["training"]["unfreeze"] == "head"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_says_where_it_comes_from(name):
    text = PRESETS[name].read_text()
    command = yaml.safe_load(text)["command"]
    assert parse_config_file(MODELS[command], PRESETS[name])
    assert "# Source:" in text and f"# Run: simclrseg {command} --config {name}" in text


@pytest.mark.usefixtures("short_dry_runs")
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_a_step_of_a_run_of_one_epoch_at_a_reduced_size(name, tmp_path):
    """On generated photos, with a small encoder and the decoder, loss, optimizer and schedule that it names."""
    from simclrseg.commands.finetune import finetune
    from simclrseg.commands.pretrain import pretrain

    command = yaml.safe_load(PRESETS[name].read_text())["command"]
    tree = read_config_file(find_preset(name), command)
    transformer = tree.get("model", {}).get("backbone") == "vit_b_16"
    start = {"init": "none", "stem": "imagenet"} if command == "pretrain" else {"pretrained": "none"}
    share = {"max_images": 64} if command == "pretrain" else {"data_ratio": 0.1}
    for section, values in {
        "data": {"dataset": "shapes", "image_size": 32, **share},
        "model": {"backbone": "tu-vit_tiny_patch16_224" if transformer else "cnn", **start},
        "training": {"epochs": 1, "batch_size": 4, "micro_batch": 4},
        "hardware": {"device": "cpu", "precision": "fp32", "workers": 1},
        "run": {"dry_run": True},
        "console": {"runs": str(tmp_path / "runs")},
    }.items():
        tree[section] = {**tree.get(section, {}), **values}
    tree.get("segment", {}).pop("init_decoder", None)
    config = parse_config(MODELS[command], tree)
    result = {"pretrain": pretrain, "finetune": finetune}[command](config)
    assert result.images_per_second > 0
    assert not (tmp_path / "runs").exists()


def test_the_defaults_of_reconstruction_are_those_of_its_preset():
    preset = parse_config_file(PretrainConfig, PRESETS["voc_reconstruction_resunet"])
    tree = {"data": {"dataset": ["voc"]}, "model": {"method": "reconstruction"}}
    defaults = parse_config(PretrainConfig, tree)
    assert preset.training.warmup == defaults.training.warmup == 10
    given = preset.training.model_copy(update={"warmup_epochs": None})
    assert preset.model_copy(update={"training": given}) == defaults


def test_a_preset_starts_from_nothing_the_library_or_what_another_preset_leaves():
    made = {config.run_name: name for name, config in PRETRAININGS.items()}
    assert len(made) == len(PRETRAININGS)  # a name stands for one of them
    for name, config in FINETUNINGS.items():
        start = config.model.pretrained
        if start in ("none", "imagenet"):
            continue
        assert command_that_makes(start) == f"simclrseg pretrain --config {made[start]}"
        assert f"# First: simclrseg pretrain --config {made[start]}\n" in PRESETS[name].read_text()
        assert config.model.backbone in (None, PRETRAININGS[made[start]].model.backbone)


def test_what_is_fine_tuned_on_voc_begins_where_its_pretraining_ends():
    pretraining = parse_config_file(PretrainConfig, PRESETS["voc_reconstruction_resunet"])
    starts = {name: parse_config_file(FinetuneConfig, PRESETS[f"voc_resunet_pretrain_{name}"]) for name in STARTS}
    assert [start.model.pretrained for start in starts.values()] == [pretraining.run_name, "none", "imagenet"]
    assert {start.model.backbone for start in starts.values()} == {pretraining.model.backbone}
    assert [start.target.init_decoder for start in starts.values()] == [True, False, False]
    assert (
        len({start.model_copy(update={"model": None, "segment": None}).model_dump_json() for start in starts.values()})
        == 1
    )


def test_voc_is_learned_with_the_rates_and_the_augmentation_of_its_source():
    config = FINETUNINGS["voc_resunet_pretrain_none"]
    training = config.training
    assert (training.optimizer, training.peak_rate, training.schedule) == ("adam", 3e-3, "cosine")
    assert (training.warmup, training.final_rate, training.epochs) == (10, 0.01, 500)
    assert config.data.augmentation == "color"


def test_the_satellite_presets_differ_in_their_encoders_and_epochs_alone():
    presets = {name: config for name, config in PRETRAININGS.items() if name.startswith("bigearthnet_simclr")}
    assert {(config.model.backbone, config.training.epochs) for config in presets.values()} == {
        ("cnn", 300),
        ("cnn", 50),
        ("resnet50", 300),
        ("vit_b_16", 300),
    }
    trees = [config.model_dump() for config in presets.values()]
    for tree in trees:
        del tree["model"]["backbone"], tree["training"]["epochs"], tree["run"]["name"]
    assert all(tree == trees[0] for tree in trees) and trees[0]["data"]["blur_probability"] == 1


def test_the_head_of_the_resnet18_seed_has_two_layers():
    knobs = PRETRAININGS["simclr_resnet18"].method
    assert (knobs.projection_hidden, knobs.projection_dim) == ([512], 256)


def test_what_the_sources_count_is_counted():
    assert parse_config_file(PretrainConfig, PRESETS["simclr_cifar10"]).data.max_images == 23_402
    reconstruction = parse_config_file(PretrainConfig, PRESETS["voc_reconstruction_resunet"])
    assert reconstruction.data.normalization == "dataset"  # whose mean is what the cuts are filled with
