"""Many predictions and many epochs in one process hold no more than few; a folder of many files is begun at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import simclrseg
from simclrseg.inference.inputs import find_images
from simclrseg.inference.jobs import plan_outputs
from tests.faults.growth import ALLOWED, of_epochs, repeated, trainings
from tests.inference.models import write_segmenter

SLACK = 4 << 20  # bytes, of an allocator whose pages are not all given back
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux what a process holds")


@pytest.mark.parametrize("once", [True, False], ids=["opened once", "opened each time"])
def test_two_hundred_predictions_hold_what_fifty_hold(tmp_path, once):
    model = write_segmenter(tmp_path / "model.onnx")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)).save(tmp_path / "image.png")
    opened = simclrseg.load_model(model, device="cpu")

    def work() -> None:
        used = opened if once else simclrseg.load_model(model, device="cpu")
        assert used.predict(tmp_path / "image.png").mask.shape == (64, 96)

    first, last = repeated(work, warm=50, count=250)
    assert last.memory <= ALLOWED * first.memory + SLACK
    assert (last.files, last.threads) == (first.files, first.threads)


@pytest.mark.slow
def test_many_epochs_hold_what_few_hold(tmp_path):
    train, config = trainings(tmp_path / "runs", 12)["simclr"]
    first, last = of_epochs(train, config, warm=4, last=12)
    assert last.memory <= ALLOWED * first.memory + SLACK
    assert (last.files, last.threads) == (first.files, first.threads)


def test_linked_folders_are_read_once_and_a_linked_photo_has_a_mask_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "photos").symlink_to("real")
    for number in range(50):
        (tmp_path / "real" / f"{number}.png").touch()
    (tmp_path / "real" / "again.png").symlink_to("7.png")
    asked: list[str] = []
    follow = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path, **options: asked.append(str(path)) or follow(path, **options))
    images = find_images([str(tmp_path / "photos"), str(tmp_path / "real")], str(tmp_path / "out"))
    jobs = plan_outputs(images, {"mask": ".png"}, str(tmp_path / "out"), one=False)
    names = [*range(50), "again"]  # each once, by whichever folder
    assert sorted(job.targets["mask"] for job in jobs) == sorted(tmp_path / "out" / f"{name}.png" for name in names)
    assert len(asked) < 12  # links of folders alone are followed
    assert not any(Path(path).name == "8.png" for path in asked)


def test_a_photo_and_a_link_to_it_of_one_name_are_one(tmp_path):
    for folder in ("all", "chosen"):
        (tmp_path / folder).mkdir()
    (tmp_path / "all" / "a.png").touch()
    (tmp_path / "all" / "b.png").touch()
    (tmp_path / "chosen" / "a.png").symlink_to("../all/a.png")
    for inputs in (["all", "chosen"], ["chosen", "all"]):
        images = find_images([str(tmp_path / name) for name in inputs], str(tmp_path / "out"))
        jobs = plan_outputs(images, {"mask": ".png"}, str(tmp_path / "out"), one=False)
        assert sorted(str(job.targets["mask"].name) for job in jobs) == ["a.png", "b.png"]
