"""`finetune --unlabelled`: which photos it takes, what it refuses, and that it goes on to the same bytes."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from simclrseg.commands.finetune import finetune
from simclrseg.commands.prepare_finetune import prepare
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.augment import PAIR_STRENGTHS
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.data.seen import image_hashes, overlap
from simclrseg.errors import DataError, Interrupted, UsageError
from simclrseg.knobs.parsing import parse_config
from simclrseg.models.weights import read_metadata, read_weights
from simclrseg.targets.segment.target import SegmentationTarget
from simclrseg.targets.unlabelled import ConfidenceWarning, open_unlabelled
from simclrseg.training.session import Session
from tests.folders import write, write_pairs
from tests.observers import stop_at
from tests.small import HARDWARE, MACHINE, changed, export_nothing, in_runs


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``labelled``: 40 pairs, of which the last ten test; ``more``: 12 other photos and two of the labelled ones."""
    root, shapes = tmp_path_factory.mktemp("photos"), Shapes(60)
    small = {i: (shapes.image(i)[::3, ::3], shapes.mask(i)[::3, ::3]) for i in range(60)}
    write_pairs(root / "labelled", {f"{i:02d}": small[i] for i in range(40)})
    (root / "labelled" / "test.txt").write_text("".join(f"{i}\n" for i in range(30, 40)))
    for i in range(40, 52):
        write(root / "more" / f"photo {i}.png", small[i][0])
    for name, i in (("a copy of one to train on", 0), ("one to test", 35)):
        shutil.copy(root / "labelled" / "images" / f"{i:02d}.png", root / "more" / f"{name}.png")
    return root


def tree(folders: Path, **data: Any) -> dict[str, Any]:
    return {
        "data": {
            "dataset": str(folders / "labelled"),
            "unlabelled": [str(folders / "more")],
            "image_size": 32,
            "data_ratio": 0.5,
            **data,
        },
        "model": {"backbone": "cnn"},
        "training": {"epochs": 3, "batch_size": 5, "learning_rate": 1e-3, "ema": 0.9},
        "consistency": {"threshold": 0.55},
        "hardware": HARDWARE,
    }


def config(values: dict[str, Any]) -> FinetuneConfig:
    return parse_config(FinetuneConfig, values)


def chosen(values: dict[str, Any]) -> tuple[SegmentationTarget, list[str]]:
    made = config(values)
    target = SegmentationTarget.open(made.data)
    dataset, indices = open_unlabelled(made.data.unlabelled, target)
    return target, [dataset.keys[index].partition("/")[2] for index in indices]


def test_unlabelled_are_development_photos_outside_the_ratio_and_the_folder_s_own(folders, caplog):
    caplog.set_level(logging.INFO)
    target, keys = chosen(tree(folders))
    split = target.split
    own = {f"labelled/{target.dataset.keys[index]}" for index in range(30)}
    used = {f"labelled/{target.dataset.keys[index]}" for index in (*split.train, *split.validation)}
    assert len(used) == 15 and {key for key in keys if key.startswith("labelled/")} == own - used
    assert sorted(key for key in keys if key.startswith("more/")) == [f"more/photo {i}.png" for i in range(40, 52)]
    assert "27 unlabelled photos: 15 of labelled + 12 of more; 2 that are among" in caplog.text


def test_photos_of_groups_that_test_or_validate_are_left_out(folders, tmp_path):
    (tmp_path / "grouped" / "images").mkdir(parents=True)
    for number in range(30):
        name = f"patient{number // 3}_{number % 3}.png"
        shutil.copy(folders / "labelled" / "images" / f"{number:02d}.png", tmp_path / "grouped" / "images" / name)
        if number % 3 < 2:  # the third of each has no mask
            write(tmp_path / "grouped" / "masks" / name, Shapes(40).mask(number)[::3, ::3])
    values = tree(tmp_path, dataset=str(tmp_path / "grouped"), unlabelled=[str(tmp_path / "grouped")], data_ratio=1.0)
    target, keys = chosen(changed(values, "data", group_by=r"patient\d+"))
    held = {target.dataset.keys[index][-13:-6] for index in (*target.split.validation, *target.split.test)}
    assert held and keys and not any(group in key for key in keys for group in held)


def test_photos_of_another_sets_test_list_are_left_out(folders, tmp_path):
    small = {f"{i}": (Shapes(60).image(i)[::3, ::3], Shapes(60).mask(i)[::3, ::3]) for i in range(40, 48)}
    write_pairs(tmp_path / "other", small)
    (tmp_path / "other" / "test.txt").write_text("41\n44\n")
    keys = chosen(tree(folders, unlabelled=[str(tmp_path / "other")]))[1]
    found = {key for key in keys if key.startswith("other/")}
    assert found == {f"other/images/{i}.png" for i in (40, 42, 43, 45, 46, 47)}


def test_photos_of_the_own_test_list_are_left_out_where_others_test(folders):
    target, keys = chosen(tree(folders, test_split="random"))
    listed = {f"labelled/{target.dataset.keys[index]}" for index in range(30, 40)}
    assert listed and keys and not listed & set(keys)


def test_the_loss_has_the_knobs_that_were_asked_for(folders):
    asked = {"threshold": 0.75, "weight": 0.5, "ramp": (2, 0.8), "balance": False}
    values = changed(changed(tree(folders), "training", epochs=10), "consistency", **asked)
    plain, made = (prepare(Session("finetune", config(one), MACHINE)) for one in (tree(folders), values))
    steps = len(made.batches)
    assert (made.task.threshold, made.task.weight) == (0.75, 0.5)
    assert made.task.ramp == (2 * steps, 8 * steps) and not made.task.memory
    assert plain.task.ramp == (round(0.6 * steps), round(1.2 * steps)) and plain.task.memory
    assert made.batches.neighbours == made.task.neighbours == 2  # partners stay in one process


@pytest.mark.parametrize("augmentation", ["none", "standard"])
def test_weak_views_are_cropped_and_flipped_alone_however_labelled_photos_are_changed(folders, augmentation):
    values = tree(folders, augmentation=augmentation)
    start = prepare(Session("finetune", config(values), MACHINE))
    assert start.batches.samples.strengths == PAIR_STRENGTHS[augmentation]
    weak = start.batches.unlabelled.strengths
    assert replace(weak, jitter_probability=0.8) == PAIR_STRENGTHS["standard"]
    assert not (weak.jitter_probability or weak.grayscale_probability or weak.blur_probability)


def test_a_set_that_is_named_twice_gives_each_photo_once(folders):
    once, twice = chosen(tree(folders))[1], chosen(tree(folders, unlabelled=[str(folders / "more")] * 2))[1]
    assert once == twice


def test_masks_of_unlabelled_photos_are_never_read(folders, tmp_path):
    shutil.copytree(folders / "more", tmp_path / "more" / "images")
    for i in range(40, 52):
        (tmp_path / "more" / "masks").mkdir(exist_ok=True)
        (tmp_path / "more" / "masks" / f"photo {i}.png").write_bytes(b"no mask")
    keys = chosen(tree(folders, unlabelled=[str(tmp_path / "more")]))[1]
    assert sum(key.startswith("more/images/photo") for key in keys) == 12


def test_masks_under_names_of_their_own_are_left_out_of_the_unlabelled_photos_and_counted(folders, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    shutil.copytree(folders / "more", tmp_path / "more" / "Input")
    for i in range(40, 52):
        write(
            tmp_path / "more" / "Task_GroundTruth" / f"photo {i}_segmentation.png", Shapes(60).mask(i)[::3, ::3] * 255
        )
    keys = chosen(tree(folders, unlabelled=[str(tmp_path / "more")]))[1]
    unlabelled = sorted(key for key in keys if key.startswith("more/"))
    assert unlabelled == [f"more/Input/photo {i}.png" for i in range(40, 52)]
    assert "left out: 12 masks in Task_GroundTruth/, for photos alone are looked at" in caplog.text


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        ("data", {"unlabelled": []}, "threshold of consistency is for unlabelled photos: name some with --unlabelled"),
        ("training", {"ema": None}, "ema none leaves unlabelled photos without a teacher"),
        ("model", {"task": "classify"}, "unlabelled is for task segment and has no meaning for task classify"),
        (
            "consistency",
            {"ramp": (0.4, 0.2)},
            r"ramp \(0.4 0.2\) must end after it begins and before the training ends: there are 3 epochs",
        ),
        ("consistency", {"ramp": (1, 4)}, r"ramp \(1.0 4.0\) must end after it begins"),
        ("consistency", {"threshold": 0.4}, "consistency.threshold 0.4: must be a number with 0.5 <= x < 1"),
    ],
)
def test_what_cannot_work_is_refused(folders, section, values, says):
    with pytest.raises(UsageError, match=says):
        config(changed(tree(folders), section, **values))


def test_a_training_that_takes_only_photos_that_it_knows_is_refused(folders, tmp_path):
    shutil.copytree(folders / "labelled" / "images", tmp_path / "same")
    with pytest.raises(DataError, match="every photo there is a labelled or a test photo of labelled; name others"):
        chosen(tree(folders, unlabelled=[str(tmp_path / "same")], data_ratio=1.0))


def test_photos_of_other_bands_are_refused(folders, tmp_path):
    cv2.imwrite(str(tmp_path / "four.tif"), np.zeros((8, 8, 4), np.uint16))
    with pytest.raises(DataError, match=r"--unlabelled .* has the bands .* up to 65,535, but labelled has red, green"):
        chosen(tree(folders, unlabelled=[str(tmp_path)]))


def finetune_quickly(values: dict[str, Any], **options: Any) -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        export_nothing(monkeypatch)
        return finetune(config(values), **options)


def test_interrupted_and_resumed_it_ends_with_the_same_bytes(folders, tmp_path):
    values = in_runs(tree(folders), tmp_path)
    whole = finetune_quickly(values)
    parts = changed(values, "run", name="parts")
    with pytest.raises(Interrupted):
        finetune_quickly(parts, observers=[stop_at(step=5)])  # of three an epoch
    finetune_quickly(changed(changed(parts, "run", resume="parts"), "hardware", workers=1))
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (whole.run / name).read_bytes() == (tmp_path / "finetune" / "parts" / name).read_bytes()
    first, second = (
        read_weights(folder / "model.safetensors")[0] for folder in (whole.run, tmp_path / "finetune" / "parts")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert whole.run.name == "labelled-none-r0.5-unlabelled"

    card = (whole.run / "README.md").read_text()
    assert "| photos without masks | 15 of labelled + 12 of more |" in card
    assert f"Trained on photos of {folders / 'labelled'} and {folders / 'more'}." in card.replace("\\", "")
    metadata = read_metadata(whole.run / "model.safetensors")
    more = [Path(folders / "more" / f"photo {i}.png") for i in range(40, 52)]
    from simclrseg.data.datasets.locate import open_dataset

    dataset = open_dataset(str(folders / "more"))
    places = [index for index in range(len(dataset)) if dataset.path(index) in more]
    assert overlap(metadata.seen, image_hashes(dataset, places)).seen == 12  # evaluate says so
    assert json.loads((whole.run / "environment.json").read_text())["photos"] == 15 + 10 + 27
    assert yaml.safe_load((whole.run / "config.yaml").read_text())["consistency"]["threshold"] == 0.55


def test_a_run_is_not_resumed_with_other_unlabelled_photos(folders, tmp_path):
    shutil.copytree(folders, tmp_path / "photos")
    values = changed(in_runs(tree(tmp_path / "photos"), tmp_path / "runs"), "run", name="it")
    with pytest.raises(Interrupted):
        finetune_quickly(values, observers=[stop_at(step=4)])
    (tmp_path / "photos" / "more" / "photo 40.png").unlink()
    with pytest.raises(DataError, match="the photos are not those that the run began with"):
        finetune_quickly(changed(values, "run", resume="it"))


def test_it_warns_where_the_teacher_is_sure_of_all_or_of_nothing(caplog):
    from simclrseg.engine.history import EpochRecord

    def told(*shares: float) -> str:
        caplog.clear()
        warning = ConfidenceWarning(from_epoch=2)
        for number, share in enumerate(shares, 1):
            warning.on_epoch(EpochRecord(number, number, {"confident": share}, {}, 1.0))
        return caplog.text

    assert "sure of 99% of the unlabelled pixels in the first epoch" in told(0.99)
    assert told(0.3, 0.99) == ""
    assert "sure of 0.1% of the unlabelled pixels" in told(0.001, 0.001)
    assert told(0.0) == ""
    assert told(0.0, 0.0, 0.0).count("sure of") == 1
