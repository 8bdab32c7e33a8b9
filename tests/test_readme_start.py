"""The guide's first commands do the whole job as they stand, in a new user's folder."""

from __future__ import annotations

import re
import subprocess
import sys

import cv2
import pytest

from simclrseg.data.datasets.shapes import COUNT, Shapes
from simclrseg.models.weights import read_metadata
from tests.readme import EXECUTABLE, GUIDE, TREE, words

PHOTO = 609  # of the shapes: tests/data/shapes.png


@pytest.mark.slow
@pytest.mark.skipif(not EXECUTABLE.exists(), reason="the command `simclrseg` is not installed beside this Python")
def test_the_first_commands_do_the_whole_job(tmp_path):
    (tmp_path / "tests" / "data").mkdir(parents=True)
    (tmp_path / "tests" / "data" / "shapes.png").write_bytes((TREE / "tests" / "data" / "shapes.png").read_bytes())
    for command in GUIDE.commands[:3]:
        typed = [str(EXECUTABLE), *words(command)]
        done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr  # all that a score can be doubted for, and test photos that were seen
    learned = read_metadata(tmp_path / "runs" / "pretrain" / "shapes" / "backbone.safetensors")
    assert learned.metrics["knn"] >= learned.without_learning["knn"] + 0.1
    photo = cv2.imread(str(tmp_path / "tests" / "data" / "shapes.png"))
    mask = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED) > 0
    shapes = Shapes(PHOTO + 1)
    assert (photo[:, :, ::-1] == shapes.image(PHOTO)).all() and PHOTO >= COUNT  # it trained nothing
    truth = shapes.mask(PHOTO) > 0
    assert (mask & truth).sum() / (mask | truth).sum() > 0.6
    example = re.compile(r"^```python\n(import segmentation_models.*?)^```", re.DOTALL | re.MULTILINE)
    (lines,) = example.findall(GUIDE.text)
    lines = lines.replace("resnet50", "resnet18")  # as the command has it
    subprocess.run([sys.executable, "-c", lines], cwd=tmp_path / "runs" / "pretrain" / "shapes", check=True)
