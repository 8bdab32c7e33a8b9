"""Weights remember every image that went into them, also those of the weights that they began with."""

from __future__ import annotations

from pathlib import Path

from simclrseg.commands.pretrain import pretrain
from simclrseg.config.pretrain import PretrainConfig
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.seen import Overlap, image_hashes, overlap
from simclrseg.knobs.parsing import parse_config
from simclrseg.models.weights import read_metadata
from simclrseg.runs.names import BACKBONE_FILE
from tests.data.fakes import photo
from tests.folders import write
from tests.small import HARDWARE

IMAGES = 8


def test_a_second_pretraining_remembers_the_images_of_the_first(tmp_path: Path) -> None:
    start = "none"
    folders = {str(tmp_path / name): first for name, first in (("first", 0), ("second", IMAGES))}
    for folder, first in folders.items():
        for number in range(first, first + IMAGES):
            write(Path(folder) / f"{number}.png", photo(number, height=32, width=32))
        config = {
            "data": {"dataset": [folder], "image_size": 32},
            "model": {"backbone": "cnn", "init": start},
            "training": {"epochs": 1, "batch_size": IMAGES, "micro_batch": IMAGES},
            "hardware": HARDWARE,
            "console": {"runs": str(tmp_path / "runs")},
        }
        start = str(pretrain(parse_config(PretrainConfig, config)).run)
    seen = read_metadata(Path(start) / BACKBONE_FILE).seen
    for folder in folders:
        images = open_dataset(folder)
        assert overlap(seen, image_hashes(images, range(len(images)))) == Overlap(IMAGES, IMAGES)
