"""Masks of a few strokes, 255 where nobody painted: from the first line to the scores."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from simclrseg.charts.chart import read_table
from simclrseg.commands.finetune import finetune
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.shapes import Shapes
from simclrseg.errors import DataError
from simclrseg.knobs.parsing import parse_config
from tests.folders import write, write_pairs
from tests.small import HARDWARE, evaluation

PHOTOS, SIDE = 24, 48


def strokes(mask: np.ndarray, number: int) -> np.ndarray:
    """Rows of a mask, every eighth; of every fourth photo those of the background alone."""
    painted = np.where(np.arange(SIDE)[:, None] % 8 < 2, mask, 255).astype(np.uint8)
    return np.where(painted == 1, 255, painted).astype(np.uint8) if number % 4 == 0 else painted


@pytest.fixture(scope="module")
def scribbles(tmp_path_factory) -> Path:
    shapes, root = Shapes(PHOTOS + 6), tmp_path_factory.mktemp("set") / "scribbles"
    small = [(cv2.resize(shapes.image(i), (SIDE, SIDE)), shapes.mask(i)) for i in range(PHOTOS + 6)]
    small = [(image, cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)) for image, mask in small]
    write_pairs(root, {f"{i:02d}": (image, strokes(mask, i)) for i, (image, mask) in enumerate(small[:PHOTOS])})
    (root / "test.txt").write_text("".join(f"{i:02d}\n" for i in range(18, PHOTOS)))
    (root / "classes.yaml").write_text("[background, figure, ignore]\n")
    for i, (image, _) in enumerate(small[PHOTOS:]):
        write(root.parent / "more" / f"{i}.png", image)
    return root


def config(scribbles: Path, runs: Path, **data: object) -> FinetuneConfig:
    tree = {
        "data": {"dataset": str(scribbles), "classes_file": str(scribbles / "classes.yaml"), "image_size": 32, **data},
        "model": {"backbone": "cnn"},
        "segment": {"loss": "bce+dice", "class_weights": "auto"},
        "training": {"epochs": 2, "batch_size": 4},
        "hardware": HARDWARE,
        "console": {"runs": str(runs)},
    }
    return parse_config(FinetuneConfig, tree)


@pytest.mark.usefixtures("unexported")
def test_strokes_are_trained_on_beside_unlabelled_photos_and_they_alone_are_scored(scribbles, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = finetune(config(scribbles, tmp_path, unlabelled=[str(scribbles.parent / "more")])).run
    masks = np.stack([cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((scribbles / "masks").glob("*"))])
    said = f"ignored: {100 * (masks == 255).mean():.2g} % of all pixels, in 24 of 24 masks"
    assert said in caplog.text
    assert "255 is ignored" in caplog.text and "class weights: background" in caplog.text
    assert np.isfinite([float(row["train_loss"]) for row in read_table(run / "metrics.csv")]).all()
    caplog.clear()
    (model,) = evaluation(tmp_path, run).models
    assert model.scores.confusion.sum() == np.count_nonzero(masks[18:] != 255)
    assert said in caplog.text


def test_nobody_guesses_what_255_is_where_it_stands_beside_0_alone(scribbles, tmp_path):
    alone = tmp_path / "alone"
    for path in sorted((scribbles / "masks").glob("*"))[::4]:
        write(alone / "images" / path.name, cv2.imread(str(scribbles / "images" / path.name))[:, :, ::-1])
        write(alone / "masks" / path.name, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    for name in ("01.png", "02.png"):
        write(alone / "images" / name, cv2.imread(str(scribbles / "images" / name))[:, :, ::-1])
        write(alone / "masks" / name, cv2.imread(str(scribbles / "masks" / name), cv2.IMREAD_UNCHANGED))
    unnamed = config(scribbles, tmp_path / "runs", dataset=str(alone), classes_file=None)
    with pytest.raises(DataError, match=r"save all in one way, or pass .* or name `ignore` in a --classes-file if 255"):
        finetune(unnamed)
