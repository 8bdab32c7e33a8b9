"""The model and the photo that come with the package: what they are, when they are taken, and how good the model is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import simclrseg
from simclrseg.commands.model import find_model
from simclrseg.commands.pull import pull
from simclrseg.config.pull import PullConfig
from simclrseg.errors import RunError, UsageError
from simclrseg.evaluation.scored import model_run
from simclrseg.inference.session import open_model
from simclrseg.knobs.parsing import parse_config
from simclrseg.weights.shipped import EXAMPLE, PETS, PHOTO, shipped_file

MEGABYTES = 6


def typed(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simclrseg", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def test_the_model_is_small_and_what_is_said_of_it_is_what_its_file_says():
    metadata = open_model(PETS.file, "cpu").metadata
    assert PETS.file.stat().st_size <= MEGABYTES * 1e6
    assert (metadata.encoder, metadata.dataset, metadata.epochs) == (PETS.encoder, PETS.dataset, PETS.epochs)
    assert (metadata.task, metadata.precision, metadata.border) == ("segmentation", "int8", "pet")
    assert not metadata.include_test


def test_its_card_says_what_users_have_to_know():
    card = PETS.file.with_suffix(".md").read_text(encoding="utf-8")
    for needed in (PETS.licence, "Apache-2.0", "CC BY-SA 4.0", "simclrseg finetune", "--unlabelled", "IoU", "930"):
        assert needed in card


def test_right_after_installation_a_photo_gets_its_mask_and_no_warning(tmp_path):
    done = typed("predict", EXAMPLE, "-o", "mask.png", folder=tmp_path)
    assert done.returncode == 0 and done.stdout == "mask.png\n"
    assert f"model {PETS.name}, which comes with simclrseg: it {PETS.does}" in done.stderr
    assert "warning" not in done.stderr
    mask = np.asarray(Image.open(tmp_path / "mask.png")) > 0
    assert mask.shape == np.asarray(Image.open(PHOTO)).shape[:2]
    assert mask[100:, 150:350].mean() > 0.95 and mask[:, -60:].mean() < 0.15  # the cat, and what is behind it


def test_a_photo_alone_gets_the_mask_that_it_gets_among_others(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("one", "two"):
        shutil.copy(PHOTO, tmp_path / "photos" / f"{name}.jpg")
    assert typed("predict", "photos/one.jpg", "-o", "mask.png", folder=tmp_path).returncode == 0
    assert typed("predict", "photos", "-o", "masks", folder=tmp_path).returncode == 0
    alone, among = (np.asarray(Image.open(tmp_path / path)) for path in ("mask.png", "masks/one.png"))
    np.testing.assert_array_equal(alone, among)


def test_a_file_of_that_name_is_the_input(tmp_path):
    Image.new("RGB", (40, 30), "white").save(tmp_path / EXAMPLE, format="PNG")
    done = typed("predict", EXAMPLE, "-o", "mask.png", folder=tmp_path)
    assert done.returncode == 0
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (40, 30)


def test_nothing_is_written_into_the_package(tmp_path):
    done = typed("predict", EXAMPLE, folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "-o" in done.stderr


def test_where_there_are_runs_no_cat_is_cut_out_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model(Path("runs"), None) == PETS.file
    with pytest.raises(RunError):
        find_model(Path("elsewhere"), None)
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunError, match="or pass --model"):
        find_model(Path("runs"), None)
    assert find_model(Path("runs"), PETS.name) == PETS.file


def test_a_run_of_its_name_comes_first(tmp_path, pipeline):
    shutil.copytree(pipeline.finetuned.run, tmp_path / "finetune" / PETS.name)
    assert find_model(tmp_path, PETS.name) == tmp_path / "finetune" / PETS.name / "model.onnx"


def test_it_is_listed_as_here_and_can_be_copied(tmp_path):
    def pulled(**download):
        return pull(parse_config(PullConfig, {"source": {"name": PETS.name}, "download": download}))

    (row,) = [row for row in pull(PullConfig()).published if row["name"] == PETS.name]
    assert (row["status"], row["MB"]) == ("here", round(PETS.file.stat().st_size / 1e6))
    assert pulled().file == PETS.file and f"--model {PETS.name}" in pulled().next
    copy = pulled(output=str(tmp_path / "models")).file
    assert copy.read_bytes() == PETS.file.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        pulled(output=str(tmp_path / "models"))


@pytest.mark.slow
def test_cats_and_dogs_that_it_has_not_seen_are_cut_out_well(real_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, pets = simclrseg.load_model(), real_data / "oxford_pets" / "oxford-iiit-pet"
    names = [line.split()[0] for line in (pets / "annotations" / "test.txt").read_text().splitlines()]
    found = []
    for name in names[::8]:
        truth = np.asarray(Image.open(pets / "annotations" / "trimaps" / f"{name}.png")) != 2
        found.append((model.predict(pets / "images" / f"{name}.jpg").mask > 0, truth))
    masks, truths = (np.concatenate([one[part].ravel() for one in found]) for part in (0, 1))
    assert iou(masks, truths) > 0.85


def test_it_is_scored_by_its_name_and_exported_by_none(tmp_path):
    assert shipped_file(PETS.name, tmp_path) == PETS.file and shipped_file("pets", tmp_path) is None
    with pytest.raises(RunError, match=r"pets-small is a file that comes with simclrseg, and no run: `simclrseg pull`"):
        model_run(tmp_path, PETS.name)
    (tmp_path / "finetune" / PETS.name).mkdir(parents=True)
    assert shipped_file(PETS.name, tmp_path) is None


def test_what_is_no_image_is_named_by_its_type():
    model = simclrseg.load_model(PETS.name)
    for one in (b"", None, [1]):
        with pytest.raises(UsageError, match=rf"of type {type(one).__name__} is no image: pass its path, a PIL image"):
            model.predict(one)
