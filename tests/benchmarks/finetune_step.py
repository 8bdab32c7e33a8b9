"""A fine-tuning step of a U-Net on the CPU against a loop as segmentation-models-pytorch's example has it.

Run it on a quiet machine: ``python -m tests.benchmarks.finetune_step``. Both start from the same JPEGs and masks and
take batches of 8, with augmentation "none", Adam and BCE. The example's loop decodes, trains in float32 and counts
tp, fp, fn and tn at every step; ours is the loader with its cache and the engine's step in the format that ``auto``
takes. The second table times pictures and masks alone, with augmentation "standard" against the same four
transforms of torchvision v2.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from simclrseg.data.augment import PAIR_STRENGTHS
from simclrseg.data.cache import cached
from simclrseg.data.datasets.dataset import FileDataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import MaskPairs
from simclrseg.engine.gradients import Passes, accumulate_gradient
from simclrseg.engine.optimizers import adam, parameter_groups
from simclrseg.engine.runtime import choose_precision
from simclrseg.losses.segmentation import bce, total
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD, ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.segmenters import build_unet
from simclrseg.targets.segment.learner import Segmentation
from tests.benchmarks._common import compare, machine, make_jpegs, repeated

CPU = torch.device("cpu")
RATE = 1e-4
BATCH = 8
PHOTOS = 32
EXAMPLE = "smp-style loop, fp32"
CLASSES = ("background", "foreground")


def make_pairs(folder: Path) -> FileDataset:
    """Photos of 320x240 with a mask of where they are bright."""
    photos = make_jpegs(folder, PHOTOS, width=320, height=240)
    masks = [photo.with_suffix(".png") for photo in photos]
    for photo, mask in zip(photos, masks, strict=True):
        cv2.imwrite(str(mask), (cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8))
    return FileDataset("pairs", folder, photos, masks=masks, classes=CLASSES)


class Pairs(torch.utils.data.Dataset):
    """As in smp's example: PIL, then numpy, then tensors."""

    def __init__(self, dataset: FileDataset, size: int, transform: v2.Transform | None = None) -> None:
        self.dataset, self.size, self.transform = dataset, size, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image.open(self.dataset.path(index)).convert("RGB")
        mask = Image.open(self.dataset.mask_path(index))
        if self.transform is not None:
            return self.transform(v2.functional.to_image(image), tv_tensors.Mask(np.array(mask)[None]))
        image, mask = image.resize((self.size,) * 2, Image.BILINEAR), mask.resize((self.size,) * 2, Image.NEAREST)
        return torch.from_numpy(np.moveaxis(np.array(image), -1, 0)), torch.from_numpy(np.array(mask)[None])


def endless(epoch: Callable[[int], Iterator]) -> Iterator:
    number = 0
    while True:
        yield from epoch(number)
        number += 1


def example_step(dataset: FileDataset, size: int) -> Callable[[], None]:
    """As in smp's examples/binary_segmentation_intro.ipynb, without Lightning; read by its loader in this process."""
    torch.manual_seed(0)
    model = smp.Unet("resnet18", encoder_weights=None, classes=1)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    loss_of = smp.losses.SoftBCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    loader = DataLoader(Pairs(dataset, size), batch_size=BATCH, shuffle=True, drop_last=True)
    batches = endless(lambda epoch: iter(loader))

    def run() -> None:
        images, masks = next(batches)
        logits = model((images.float() / 255 - mean) / std)
        loss = loss_of(logits, masks.float())
        predicted = (logits.detach().sigmoid() > 0.5).long()
        smp.metrics.get_stats(predicted, masks.long(), mode="binary")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def our_step(dataset: FileDataset, size: int, *, precision: str, threads: int) -> Callable[[], None]:
    torch.manual_seed(0)
    model = build_unet(build_backbone("resnet18"), "resnet18", 1).to(memory_format=torch.channels_last)
    metadata = ModelMetadata(task="segmentation", encoder="resnet18", image_size=size, classes=CLASSES, threshold=0.5)
    task = Segmentation(model, metadata, total([bce]))
    optimizer = adam(parameter_groups(model, 0.0), learning_rate=RATE, weight_decay=0.0)
    passes, scaler = Passes(CPU, precision, 0), torch.amp.GradScaler("cpu", enabled=False)
    batches = endless(our_batches(dataset, size, "none", threads=threads).epoch)

    def run() -> None:
        accumulate_gradient(task, next(batches), step=0, micro_batch=None, passes=passes, scaler=scaler)
        optimizer.step()
        optimizer.zero_grad()

    return run


def our_batches(dataset: FileDataset, size: int, augmentation: str, *, threads: int) -> Loader:
    pairs = cached(dataset, range(len(dataset)), where="ram", masks=True)
    samples = MaskPairs(pairs, range(len(dataset)), image_size=size, strengths=PAIR_STRENGTHS[augmentation])
    return Loader(samples, batch_size=BATCH, shuffle=True, drop_last=True, threads=threads)


def torchvision_batches(dataset: FileDataset, size: int) -> DataLoader:
    """The four transforms of "standard" in torchvision v2, without the colours' 80 %, which would only save it time."""
    strengths = PAIR_STRENGTHS["standard"]
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=strengths.crop_scale, ratio=strengths.crop_ratio, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(strengths.brightness, strengths.contrast, strengths.saturation, strengths.hue),
        ]
    )
    return DataLoader(Pairs(dataset, size, transform), batch_size=BATCH, shuffle=True, drop_last=True)


def drained(epoch: Callable[[int], Iterator]) -> Callable[[], None]:
    def run() -> None:
        for _ in epoch(0):
            pass

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256], help="sides of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="of one round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    times = {"rounds": arguments.rounds, "threads": arguments.threads}
    precision = choose_precision("auto", CPU)
    print(f"{machine()}; the default on this CPU is {precision}")
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_pairs(Path(folder))
        for size in arguments.sizes:
            variants = {
                EXAMPLE: example_step(dataset, size),
                "simclrseg, fp32": our_step(dataset, size, precision="fp32", threads=arguments.threads),
                f"simclrseg, {precision}": our_step(dataset, size, precision=precision, threads=arguments.threads),
            }
            variants = {name: repeated(run, arguments.steps) for name, run in variants.items()}
            images = arguments.steps * BATCH
            compare(f"U-Net (ResNet-18), {size} px, batch {BATCH}", variants, images=images, **times)
        for size in arguments.sizes:
            theirs = torchvision_batches(dataset, size)
            variants = {
                "torchvision v2": drained(lambda epoch, theirs=theirs: iter(theirs)),
                "simclrseg, nothing kept": drained(uncached(dataset, size, threads=arguments.threads).epoch),
                "simclrseg": drained(our_batches(dataset, size, "standard", threads=arguments.threads).epoch),
            }
            compare(f"photo and mask, augmentation standard, {size} px", variants, images=PHOTOS, **times)


def uncached(dataset: FileDataset, size: int, *, threads: int) -> Loader:
    samples = MaskPairs(dataset, range(len(dataset)), image_size=size, strengths=PAIR_STRENGTHS["standard"])
    return Loader(samples, batch_size=BATCH, shuffle=True, drop_last=True, threads=threads)


if __name__ == "__main__":
    main()
