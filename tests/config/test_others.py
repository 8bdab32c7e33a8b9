"""Configs of other tools behind --config, among them those of the repositories whose results the presets repeat."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from simclrseg.cli.app import main
from simclrseg.config import CONFIGS
from simclrseg.config.files import PRESETS
from simclrseg.config.others import translate
from simclrseg.config.spellings import KEYS, NOT_HERE, VALUES
from simclrseg.errors import UsageError
from simclrseg.knobs.knob import knobs_of, look_up
from simclrseg.knobs.parsing import parse_config, parse_config_file, stored_values

CONTRAST = """
data:
  dataset: {dataset}
  image_size: 224
  augmentations: {{color_distortion_strength: 1.0, gaussian_blur_kernel: 23, gaussian_blur_sigma: [0.1, 2.0]}}
experiment: {{name: first_try, save_dir: here, log_dir: there, save_frequency: 5}}
model: {{backbone: resnet50, hidden_dim: 512, projection_dim: 128, temperature: 0.1}}
training: {{accumulation_steps: 8, batch_size: 120, epochs: 20, learning_rate: 0.3, optimizer: LARS,
            weight_decay: 1e-6}}
"""
MASKS = """
data: {dataset: oxford_pets, data_ratio: 0.8, image_size: 224, images_dir: a, masks_dir: b, normalize: true,
       train_ratio: 0.7, val_ratio: 0.15, test_ratio: 0.15}
model: {backbone: resnet50, decoder: unet, freeze_backbone: false, pretrained_path: saved/pets.ckpt}
training: {batch_size: 32, epochs: 60, eval_frequency: 2, learning_rate: 1e-4, loss_function: BCE, optimizer: Adam}
experiment: {metrics: [IoU, Dice_loss], name: masks, save_dir: here}
"""
VOC = """
augmentation: {augmentation}
augmentation_args:
  augmentation_steps: [HorizontalFlip, ColorJitter]
  normalization: {{mean: [0.45, 0.43, 0.4], std: [0.44, 0.47, 0.49]}}
  resize: 256
dataset: {dataset}
dataset_args: {{batch_size: 32}}
epochs: {epochs}
model: {model}
model_args: {{{args}}}
optimizer_args: {{lr: 3.0e-3}}
scheduler_args: {{min_multiplier: 1.0e-2, warmup_epochs: 10}}
"""
PAINTING = VOC.format(
    augmentation="reconstruction_coarse_cutout",
    dataset="pascal_voc_unlabelled",
    epochs=1000,
    model="reconstruction",
    args="underlying_model: resunet34, underlying_model_args: {num_classes: 3, ignore_class: null, pretrain: false}",
)


def started(start: str) -> str:
    """A file of the second part of that seed."""
    args = f"num_classes: 22, ignore_class: 21, pretrain: {start}"
    return VOC.format(
        augmentation="custom", dataset="pascal_voc_segmentation", epochs=500, model="resunet34", args=args
    )


FILES = {
    "simclr_pets.yaml": ("pretrain", CONTRAST.format(dataset="cats_vs_dogs")),
    "simclr_cifar10.yaml": ("pretrain", CONTRAST.format(dataset="cifar10\n  subset_size: 23402")),
    "pets_segmentation.yaml": ("finetune", MASKS),
    "voc_reconstruction_resunet.yml": ("pretrain", PAINTING),
    "voc_resunet_pretrain_none.yml": ("finetune", started("false")),
    "voc_resunet_pretrain_library.yml": ("finetune", started("true")),
    "voc_resunet_pretrain_reconstruction.yml": ("finetune", started("voc_reconstruction_resunet/3741")),
}
ON_PURPOSE = {
    "simclr_pets": {"data.color_strength", "run.name"},
    "simclr_cifar10": {"data.color_strength", "run.name"},
    "pets_segmentation": {"data.data_ratio", "data.image_size", "data.test_split", "data.validation"}
    | {"model.backbone", "model.pretrained", "run.name", "segment.decoder"},
}
"""What the files say otherwise than the presets, which follow the texts of the same sources."""


def read(command: str, text: str, *, name="theirs.yaml"):
    """The config that comes of a file, as a tree, and what is said of it."""
    found = translate(CONFIGS[command], yaml.safe_load(text), Path(name))
    config = parse_config(CONFIGS[command], found.tree, source=name, names=found.typed)
    return stored_values(config), found


def typed(capsys, words: str) -> tuple[int, str, list[str]]:
    """Exit code, output and lines of a command."""
    with pytest.raises(SystemExit) as end:
        main(shlex.split(words))
    out, said = capsys.readouterr()
    return end.value.code, out, said.splitlines()


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_seed_is_read_as_its_preset_but_for_what_it_says_otherwise(name):
    command, text = FILES[name]
    stem = name.partition(".")[0]
    found, _ = read(command, text, name=name)
    preset = parse_config_file(CONFIGS[command], PRESETS[stem]).model_dump(mode="json")
    keys = {knob.key: knob.path for knob in knobs_of(CONFIGS[command]) if not knob.transient}
    there = {key: look_up(found, path) for key, path in keys.items() if path[0] in found}
    differing = {key for key, value in there.items() if value != look_up(preset, keys[key])}
    assert differing == ON_PURPOSE.get(stem, {"data.normalization"})


def test_the_shares_of_a_seed_are_those_of_all_its_photos():
    data = read("finetune", MASKS)[0]["data"]
    assert data["test_split"] == 0.15 and round((1 - 0.15) * data["validation"], 3) == 0.15
    text = "data: {dataset: shapes}\ntrain_ratio: 0.6\nval_ratio: 0.2\n"
    data = read("finetune", text)[0]["data"]
    assert (data["test_split"], data["validation"]) == (0.2, 0.25)


def test_it_is_said_what_was_read_as_what_and_what_has_no_counterpart(tmp_path, capsys):
    file = tmp_path / "simclr_pets.yaml"
    file.write_text(CONTRAST.format(dataset="cats_vs_dogs"))
    code, out, lines = typed(capsys, f"pretrain --config {file} --print-config")
    assert code == 0 and yaml.safe_load(out)["simclr"]["projection_hidden"] == [512]
    assert lines[0] == "simclr_pets.yaml has no `command:`, so that it is read as another tool's, for pretrain"
    assert "model.hidden_dim 512 is simclr.projection_hidden 512" in lines
    assert any(line.startswith("what it leaves open is as in the preset simclr_pets: ") for line in lines)
    assert "no counterpart here for experiment.save_dir, experiment.log_dir: runs lie in runs/" in "\n".join(lines)
    named = "\n".join(lines)
    flat = yaml.safe_load(CONTRAST.format(dataset="cats_vs_dogs"))
    assert all(key in named for section in flat.values() for key in section)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("model: {name: ResNet18}", "model.backbone", "resnet18"),
        ("encoder_name: efficientnet_b0", "model.backbone", "efficientnet-b0"),
        ("model: {type: UNet++}", "segment.decoder", "unetplusplus"),
        ("loss: BCEWithLogitsLoss", "segment.loss", "bce"),
        ("train: {criterion: CrossEntropy}", "segment.loss", "ce"),
        ("optimizer: {name: AdamW, lr: 1e-4}", "training.learning_rate", 1e-4),
        ("scheduler: {type: CosineAnnealingLR}", "training.schedule", "cosine"),
        ("train: {num_epochs: '7'}", "training.epochs", 7),
        ("img_size: [64, 64]", "data.image_size", 64),
        ("model: {freeze_encoder: true}", "training.unfreeze", "head"),
        ("encoder_weights: imagenet", "model.pretrained", "imagenet"),
        ("pretrained: false", "model.pretrained", "none"),
        ("trainer: {precision: 16-mixed}", "hardware.precision", "fp16"),
        ("batch_size: 8\naccumulate_grad_batches: 4", "training.batch_size", 32),
        ("batch_size: 8\naccumulate_grad_batches: 4", "training.micro_batch", 8),
        ("dataset: {name: Oxford-IIIT-Pet}", "data.dataset", "oxford_pets"),
        ("transforms: [RandomHorizontalFlip]", "data.augmentation", "flip"),
        ("transforms: [{RandomResizedCrop: 64}, ColorJitter]", "data.augmentation", "standard"),
        ("training: {early_stopping: {patience: 9}}", "training.patience", 9),
    ],
)
def test_a_key_of_another_tool_is_known(line, key, value):
    found, _ = read("finetune", line)
    assert look_up(found, tuple(key.split("."))) == value


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("optimizer: LAMB", "left out optimizer: LAMB is not one of lars, adam, adamw, sgd"),
        ("training: {lr: high}", "left out training.lr: high is not a number with x > 0"),
        ("loss: {temperature: 0.3}", "left out loss.temperature: it is for `simclrseg pretrain`"),
        ("data: {epochz: 3}", "left out data.epochz: it is not known; the nearest key is training.epochs"),
        ("a: {1: [{b: 2}]}", "left out a.1: it is not known"),
        ("model: {name: [a, b]}", "left out model.name: it is not known"),
        ("run: {resume: x}", "left out run.resume: it is not known"),
        ("val_split: 500", "left out val_split: it is not known"),
        ("lr: 0.1\nlearning_rate: 0.2", "left out learning_rate: training.learning_rate is given already"),
        ("lr: 0.1", "gives a learning rate and names no optimizer: the default one is taken"),
    ],
)
def test_what_has_no_counterpart_is_a_warning_with_the_reason(line, says):
    _, found = read("finetune", f"seed: 3\n{line}")
    assert [line for line in found.warnings if says in line and line.startswith("theirs.yaml")]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "x.yaml",
            "services: {web: {image: nginx}}",
            r"x\.yaml holds no key that finetune knows .*web\.image",
        ),
        ("simclr_pets.yaml", "seed: 1", "is named as the preset simclr_pets for `simclrseg pretrain`"),
        ("x.yaml", "train: {n_epochs: -3}", r"x\.yaml: train\.n_epochs -3: must be"),
        ("x.yaml", "optim: adam\ndata: {name: no/set}", r"x\.yaml: data\.name: there is no folder 'no/set'"),
        ("x.yaml", r"data: {name: 'C:\no\set'}", r"there is no folder 'C:\\no\\set'"),
    ],
)
def test_what_cannot_be_read_so_gets_one_line(name, text, says):
    with pytest.raises(UsageError, match=says) as error:
        read("finetune", text, name=name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "BCE"])
def test_a_file_for_photos_in_classes_is_read_whatever_loss_and_decoder_it_names(loss):
    text = f"task: Classification\ndataset: EuroSAT\nloss: {loss}\nmodel: {{backbone: ResNet-18, decoder: unet}}\n"
    values, found = read("finetune", text)
    assert (values["model"]["task"], values["data"]["dataset"]) == ("classify", "eurosat")
    assert "no counterpart here for loss: the method or the task has a loss of its own" in found.notes
    assert found.warnings == ["theirs.yaml: left out model.decoder: it is for another task"]


def test_what_is_of_another_method_is_left_out():
    values, found = read(
        "pretrain", "dataset: voc\nmodel: reconstruction\ntemperature: 0.2\nsimclr: {projection_dim: 64}"
    )
    assert values["model"]["method"] == "reconstruction" and "temperature" not in str(values["reconstruction"])
    assert found.warnings == ["theirs.yaml: left out temperature, simclr.projection_dim: it is for another method"]


def test_a_frozen_encoder_gets_no_rate_of_the_preset_of_the_same_name():
    values, found = read("finetune", MASKS.replace("backbone: false", "backbone: true"), name="pets_segmentation.yaml")
    assert (values["training"]["unfreeze"], values["training"]["encoder_lr_factor"]) == ("head", None)
    assert "encoder_lr_factor" not in "".join(found.notes) and "schedule cosine" in "".join(found.notes)


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_that_batches_are_not_added_up_is_said(command):
    _, found = read(command, "dataset: voc\naccumulation_steps: 8")
    said = "accumulation_steps: each batch is a step of its own; a larger --batch-size fits any memory (--micro-batch)"
    assert f"no counterpart here for {said}" in found.notes


def test_quiet_is_told_of_what_is_left_out_alone(tmp_path, capsys):
    (tmp_path / "theirs.yaml").write_text("bs: 8\nodd: 1")
    _, _, lines = typed(capsys, f"finetune --config {tmp_path / 'theirs.yaml'} --print-config --quiet")
    assert lines == ["warning: theirs.yaml: left out odd: it is not known"]


def test_the_command_line_wins_over_the_file_of_another_tool(tmp_path, capsys):
    (tmp_path / "x.yaml").write_text(MASKS)
    _, out, _ = typed(capsys, f"finetune --config {tmp_path / 'x.yaml'} --pretrained none --epochs 3 --print-config")
    found = yaml.safe_load(out)
    assert (found["model"]["pretrained"], found["training"]["epochs"]) == ("none", 3)


def test_a_file_in_this_tools_words_needs_no_command_and_no_line():
    values, found = read("pretrain", "data: {dataset: shapes}\ntraining: {epochs: 2}")
    assert (values["data"]["dataset"], values["training"]["epochs"]) == (["shapes"], 2)
    assert not found.notes and not found.warnings


def test_a_command_is_given_the_config_that_came_of_it_and_says_the_lines(tmp_path, capsys, monkeypatch):
    got = []
    monkeypatch.setattr(
        import_module("simclrseg.commands.pretrain"), "pretrain", lambda config, **_: got.append(config)
    )
    (tmp_path / "theirs.yaml").write_text("dataset: shapes\nsubset_size: 32\nodd: 1")
    code, out, lines = typed(capsys, f"pretrain --config {tmp_path / 'theirs.yaml'}")
    assert (code, out, got[0].data.max_images) == (0, "", 32)
    assert "subset_size 32 is data.max_images 32" in lines and "warning: theirs.yaml: left out odd" in "\n".join(lines)


def test_a_section_without_keys_is_none_at_all():
    _, found = read("finetune", "seed: 1\ndata:\n")
    assert not found.warnings


def test_every_spelling_is_of_a_knob_that_is_there():
    names = {knob.name for command in ("pretrain", "finetune") for knob in knobs_of(CONFIGS[command])}
    assert set(KEYS) <= names and set(VALUES) <= names
    spelled = [spelling for spellings in KEYS.values() for spelling in spellings]
    assert len(spelled) == len(set(spelled)) and NOT_HERE.keys().isdisjoint(set(spelled) - set(KEYS["loss"]))


def test_a_tree_is_read_without_being_changed(tmp_path):
    tree = yaml.safe_load(MASKS)
    translate(CONFIGS["finetune"], tree, tmp_path / "x.yaml")
    assert tree == yaml.safe_load(MASKS)
