"""Scenes in a process of their own, whose memory is looked at: however many there are, one at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

SIDE = 4_200
STATUS = Path("/proc/self/status")
MEASURED = """
import sys
from pathlib import Path

import numpy as np

from simclrseg.images import limits

limits.LARGE, limits.LARGE_AT_ONCE = 1 << 22, 1 << 24  # so that what is written here quickly is large

from simclrseg.data.cache import cached
from simclrseg.data.datasets.dataset import DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.framing import Cropping
from simclrseg.data.loader import Loader
from simclrseg.data.mask_statistics import count_pixels
from simclrseg.data.samples import MaskPairs, WeakAndStrong
from simclrseg.images.framing import Framing
from simclrseg.metadata import ModelMetadata
from simclrseg.scores.gallery import worst_and_best
from simclrseg.scores.reading import readable_images
from simclrseg.targets.base import Scoring
from simclrseg.targets.segment.scores import score

folder = sys.argv[1]
STATUS = Path("/proc/self/status")
metadata = ModelMetadata(
    task="segmentation", encoder="cnn", image_size=512, resize="tile", classes=("background", "foreground"),
    colours=((0, 0, 0), (255, 0, 0)), threshold=0.5,
)


def peak() -> int:
    return next(int(line.split()[1]) << 10 for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))


def bright(tiles: np.ndarray) -> np.ndarray:
    return tiles[..., 0].astype(np.float32) / 255


before = peak()


def tell(what: str) -> None:
    print(what, peak() - before, flush=True)


dataset = open_dataset(folder, DatasetOptions(settled=True))
tell("opened")
everything = range(len(dataset))
count_pixels(dataset, everything, threads=4)
tell("counted")
pairs, cutting = cached(dataset, everything, where="disk", masks=True, cropped=True), Cropping((0, 0, 0), 2)
for samples in (MaskPairs(pairs, everything, cutting=cutting, image_size=512),
                WeakAndStrong(dataset, everything, cutting=cutting, image_size=512)):
    for batch in Loader(samples, batch_size=3, shuffle=False, drop_last=False, threads=3).epoch(0):
        tell(f"cropped:{type(samples).__name__}")
framed = readable_images(dataset, everything, Framing.of(metadata))
tell("framed")
scores = score(bright, dataset, [0], metadata, Scoring(workers=2, batch_size=4))
tell("scored")
shown = worst_and_best(scores, dataset, bright)
tell("shown")
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Three photos as JPEGs, with masks."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        coarse = rng.integers(0, 256, (58, 58, 3), np.uint8)
        image = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), image)
        mask = np.where(image[:, :, 2] > 160, 255, 0).astype(np.uint8)
        cv2.imwrite(str(folder / "masks" / f"{number}.png"), mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.is_file(), reason="the peak of memory is read from /proc")
def test_what_is_done_with_scenes_never_keeps_several_of_them(scenes: Path) -> None:
    pixels = SIDE**2
    environment = os.environ | {"XDG_CACHE_HOME": str(scenes.parent)}
    words = [sys.executable, "-c", MEASURED, str(scenes)]
    run = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    peaks = {what: int(number) / pixels for what, number in map(str.split, run.stdout.splitlines())}
    # a photo has 3 bytes a pixel and its mask 1; beside them are strips, and what malloc keeps of pieces this small
    assert max(peaks.values()) < 17, peaks
