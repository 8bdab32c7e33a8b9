"""Two 224 px views from 500x375 JPEGs, decoding included: ours against lightly, torchvision and albumentations.

Run it on a quiet machine: ``python -m tests.benchmarks.augmentation``. It needs the ``bench`` extra; with
SIMCLRSEG_TEST_DATA set, the JPEGs are made from real photos.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import io
from torchvision.transforms import v2

from simclrseg.data.augment import STRENGTHS
from simclrseg.data.cache import Where, cached
from simclrseg.data.datasets.dataset import FileDataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import TwoViews
from simclrseg.engine.runtime import freed_memory_kept
from simclrseg.models.normalize import Normalize
from tests.benchmarks._common import Timings, interleave, machine, make_jpegs, print_table

SIZE = 224
BATCH = 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LIGHTLY = "lightly SimCLRTransform"
TORCHVISION = "torchvision v2, PIL"
ALBUMENTATIONS = "albumentations, OpenCV"
OURS, OURS_FLOAT = "simclrseg, uint8", "simclrseg, uint8 to normalised floats"
CACHED, CACHED_FLOAT = f"{OURS}, RAM cache", f"{OURS_FLOAT}, RAM cache"


class Peer(torch.utils.data.Dataset[torch.Tensor]):
    """A pipeline of others: a file becomes (2, 3, S, S) normalised floats."""

    def __init__(self, files: Sequence[Path], views: Callable[[Path], list[torch.Tensor]]) -> None:
        self.files = files
        self.views = views

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.stack(self.views(self.files[i]))


def lightly_views() -> Callable[[Path], list[torch.Tensor]]:
    transform = SimCLRTransform(input_size=SIZE)
    return lambda file: transform(Image.open(file).convert("RGB"))


def torchvision_views(*, tensors: bool) -> Callable[[Path], list[torch.Tensor]]:
    jitter = v2.ColorJitter(0.8, 0.8, 0.8, 0.2)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=(0.08, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([jitter], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], p=0.5),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    def views(file: Path) -> list[torch.Tensor]:
        if tensors:
            image = io.decode_jpeg(io.read_file(str(file)), mode=io.ImageReadMode.RGB)
        else:
            image = Image.open(file).convert("RGB")
        return [transform(image), transform(image)]

    return views


def on_one_thread(files: Sequence[Path], *, rounds: int) -> Timings:
    """Everything on the calling thread, without a loader."""
    decoding, kept, normalize = two_views(files), two_views(files, cache="ram"), Normalize(MEAN, STD)
    out = {name: np.empty((BATCH, *shape), dtype) for name, (shape, dtype) in kept.fields.items()}
    images = torch.from_numpy(out["image"])

    def ours(samples: TwoViews, consume: Normalize | None) -> None:
        for start in range(0, len(files), BATCH):
            samples.fill(0, np.arange(start, start + BATCH), out)
            if consume:
                consume(images.flatten(0, 1))

    def run(views: Callable[[Path], list[torch.Tensor]]) -> Callable[[], object]:
        peer = Peer(files, views)
        return lambda: [peer[i] for i in range(len(peer))]

    variants: dict[str, Callable[[], object]] = {
        TORCHVISION: run(torchvision_views(tensors=False)),
        "torchvision v2, tensors": run(torchvision_views(tensors=True)),
        LIGHTLY: run(lightly_views()),
        ALBUMENTATIONS: run(albumentations_views()),
        OURS_FLOAT: lambda: ours(decoding, normalize),
        OURS: lambda: ours(decoding, None),
        CACHED_FLOAT: lambda: ours(kept, normalize),
        CACHED: lambda: ours(kept, None),
    }
    return interleave(variants, rounds=rounds, threads=1)


def on_many_threads(files: Sequence[Path], *, threads: int, rounds: int) -> Timings:
    """Our loader's threads against as many worker processes of torch's DataLoader."""
    decoding, kept = (
        Loader(samples, batch_size=BATCH, shuffle=True, drop_last=True, threads=threads)
        for samples in (two_views(files), two_views(files, cache="ram"))
    )
    normalize = Normalize(MEAN, STD)

    def ours(loader: Loader, consume: Normalize | None) -> None:
        for batch in loader.epoch(0):
            if consume:
                consume(batch["image"].flatten(0, 1))

    def run(views: Callable[[Path], list[torch.Tensor]]) -> Callable[[], object]:
        batches = DataLoader(
            Peer(files, views), BATCH, num_workers=threads, persistent_workers=True, multiprocessing_context="fork"
        )
        return lambda: [None for _ in batches]

    variants: dict[str, Callable[[], object]] = {
        TORCHVISION: run(torchvision_views(tensors=False)),
        "torchvision v2, tensors": run(torchvision_views(tensors=True)),
        LIGHTLY: run(lightly_views()),
        ALBUMENTATIONS: run(albumentations_views()),
        OURS_FLOAT: lambda: ours(decoding, normalize),
        OURS: lambda: ours(decoding, None),
        CACHED_FLOAT: lambda: ours(kept, normalize),
        CACHED: lambda: ours(kept, None),
    }
    return interleave(variants, rounds=rounds, threads=threads)


def albumentations_views() -> Callable[[Path], list[torch.Tensor]]:
    """Its own cropping, without antialiasing, is what its users get."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it asks the network for a newer version while it is imported
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    transform = A.Compose(
        [
            A.RandomResizedCrop((SIZE, SIZE), scale=(0.08, 1.0)),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter((0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2), p=0.8),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=0.5),
            A.Normalize(MEAN, STD),
            ToTensorV2(),
        ]
    )

    def views(file: Path) -> list[torch.Tensor]:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        return [transform(image=image)["image"], transform(image=image)["image"]]

    return views


def two_views(files: Sequence[Path], *, cache: Where = "none") -> TwoViews:
    """The samples; the warm-up round fills the cache, so that its rows are those of the second epoch and later."""
    dataset = cached(FileDataset("jpegs", files[0].parent, files), range(len(files)), where=cache)
    return TwoViews(dataset, range(len(files)), image_size=SIZE, strengths=STRENGTHS["paper"], seed=0)


def report(title: str, timings: Timings, views: int) -> None:
    print(f"\n{title}, medians of {len(timings.seconds[LIGHTLY])} rounds in turns")
    rows = [
        [
            name,
            f"{views / timings.median(name):.0f}",
            f"{timings.ratio(name, LIGHTLY):.2f}x",
            f"{timings.ratio(name, TORCHVISION):.2f}x",
            f"{timings.ratio(name, ALBUMENTATIONS):.2f}x",
        ]
        for name in timings.seconds
    ]
    print_table(["pipeline", "views/s", "to lightly", "to torchvision", "to albumentations"], rows)
    print(timings.note())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=256, help="JPEGs; one thread takes a quarter of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    # in a training memory that is freed is kept, for all of these alike
    with tempfile.TemporaryDirectory() as folder, freed_memory_kept(torch.device("cpu")):
        files = make_jpegs(Path(folder), arguments.photos // (4 * BATCH) * 4 * BATCH)
        few = files[: len(files) // 4]
        print(machine())
        timings = on_one_thread(few, rounds=arguments.rounds)
        report(f"1 thread, {len(few)} JPEGs of 500x375 to two {SIZE} px views", timings, 2 * len(few))
        timings = on_many_threads(files, threads=arguments.threads, rounds=arguments.rounds)
        title = f"{arguments.threads} threads against {arguments.threads} worker processes, {len(files)} JPEGs"
        report(title, timings, 2 * len(files))


if __name__ == "__main__":
    main()
