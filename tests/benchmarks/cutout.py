"""Cutting half of a picture: all rectangles at once against one after the other, and what it adds to a batch.

Run it on a quiet machine: ``python -m tests.benchmarks.cutout``. With SIMCLRSEG_TEST_DATA set, the JPEGs are made from
real photos.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from simclrseg.data.augment import STRENGTHS
from simclrseg.data.cache import cached
from simclrseg.data.cutout import Cutout, cut, rectangles
from simclrseg.data.datasets.dataset import FileDataset
from simclrseg.data.loader import Loader
from simclrseg.data.randomness import uniform
from simclrseg.data.samples import CutViews, Images
from tests.benchmarks._common import interleave, machine, make_jpegs, print_table

BATCH = 32
SLICES, OPENCV, OURS = "numpy slices", "cv2.rectangle", "simclrseg"


def one_by_one(u: np.ndarray, cutout: Cutout, out: np.ndarray, draw: Callable[..., object]) -> None:
    """The same cut, as a loop over rectangles."""
    bands = out.shape[2]
    plane = np.zeros(out.shape[:2], np.uint8)
    for band, numbers in enumerate(u[1:].reshape(bands, 4, -1)):
        if band == 0 or u[0] < cutout.single_band_probability:
            plane[:] = 0
            for top, left, bottom, right in rectangles(numbers, cutout, len(out)).T.tolist():
                draw(plane, top, left, bottom, right)
        out[:, :, band] = plane


def by_slices(plane: np.ndarray, top: int, left: int, bottom: int, right: int) -> None:
    plane[top:bottom, left:right] = 1


def by_opencv(plane: np.ndarray, top: int, left: int, bottom: int, right: int) -> None:
    cv2.rectangle(plane, (left, top), (right - 1, bottom - 1), 1, -1)


def pictures(size: int, *, rounds: int) -> None:
    """Cuts alone, on one thread."""
    cutout = Cutout()
    numbers = uniform(0, 0, np.arange(BATCH), cutout.columns(size, 3))
    outs = {name: np.zeros((BATCH, size, size, 3), bool) for name in (SLICES, OPENCV, OURS)}

    def all_by(name: str, one: Callable[[np.ndarray, np.ndarray], None]) -> Callable[[], object]:
        return lambda: [one(numbers[row], outs[name][row]) for row in range(BATCH)]

    timings = interleave(
        {
            SLICES: all_by(SLICES, lambda u, out: one_by_one(u, cutout, out, by_slices)),
            OPENCV: all_by(OPENCV, lambda u, out: one_by_one(u, cutout, out, by_opencv)),
            OURS: all_by(OURS, lambda u, out: cut(u, cutout, out)),
        },
        rounds=rounds,
        threads=1,
    )
    assert (outs[OURS] == outs[SLICES]).all() and (outs[OURS] == outs[OPENCV]).all()
    print(f"\n{BATCH} pictures of {size} px, {cutout.rectangles(size)} rectangles a band, {rounds} rounds in turns")
    rows = [[name, f"{1e3 * timings.median(name) / BATCH:.2f}", f"{timings.ratio(name, SLICES):.2f}x"] for name in outs]
    print_table(["cut", "ms a picture", f"to {SLICES}"], rows)
    print(timings.note())


def batches(files: list[Path], size: int, *, threads: int, rounds: int) -> None:
    """Whole batches out of a full RAM cache: augmented and cut, and the bare photos for comparison."""
    dataset = cached(FileDataset("jpegs", files[0].parent, files), range(len(files)), where="ram")
    views = CutViews(dataset, range(len(files)), image_size=size, strengths=STRENGTHS["whole"], cutout=Cutout(), seed=0)
    samples = {"bare photos": Images(dataset, range(len(files)), image_size=size), "augmented and cut": views}

    def run(samples: Images | CutViews) -> Callable[[], object]:
        loader = Loader(samples, batch_size=BATCH, shuffle=True, drop_last=True, threads=threads)
        return lambda: [None for _ in loader.epoch(0)]

    timings = interleave({name: run(each) for name, each in samples.items()}, rounds=rounds, threads=threads)
    print(f"\n{len(files)} photos of 500x375 to {size} px from RAM, {threads} threads, {rounds} rounds in turns")
    rows = [[name, f"{len(files) / timings.median(name):.0f}"] for name in samples]
    print_table(["samples", "photos/s"], rows)
    print(timings.note())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    print(machine())
    pictures(arguments.size, rounds=arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        files = make_jpegs(Path(folder), max(BATCH, arguments.photos))
        batches(files, arguments.size, threads=arguments.threads, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
