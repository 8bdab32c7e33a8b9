"""Test IoU and speed of fine-tuning from scratch on Oxford Pets, against a plain script with the same recipe.

Both train a ResNet-18 U-Net on the same 505 photos at 128 px: AdamW, one cycle to 2e-3, batch 16, flips. The plain
script is what the examples of segmentation-models-pytorch amount to: PIL, a DataLoader, fp32, one loop. Both are
scored on the official test list at 128 px, border counted as pet.

    SIMCLRSEG_DATA=<data> python -m tests.benchmarks.pets_accuracy [EPOCHS=20] [SEEDS=3]
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from simclrseg.commands.finetune import finetune
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.splits import make_split
from tests.benchmarks._common import machine, print_table

SIZE, BATCH, RATE = 128, 16, 2e-3
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class Pets(Dataset):
    def __init__(self, dataset, indices, *, flip: bool) -> None:
        self.files = [(dataset.path(index), dataset.mask_path(index)) for index in indices]
        self.flip = flip

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int):
        photo, trimap = self.files[item]
        image = np.asarray(Image.open(photo).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32)
        mask = np.asarray(Image.open(trimap).resize((SIZE, SIZE), Image.Resampling.NEAREST)) != 2
        image = (image / 255 - MEAN) / STD
        if self.flip and torch.rand(()) < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        return torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(mask[None].astype(np.float32))


def plain_script(dataset, split, epochs: int, seed: int) -> tuple[float, float]:
    """IoU on the test photos and seconds of training."""
    torch.manual_seed(seed)
    model = smp.Unet("resnet18", encoder_weights=None, classes=1)
    loader = DataLoader(Pets(dataset, split.train, flip=True), batch_size=BATCH, shuffle=True, num_workers=2)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * len(loader))
    loss = torch.nn.BCEWithLogitsLoss()
    start = time.perf_counter()
    model.train()
    for _ in range(epochs):
        for image, mask in loader:
            optimizer.zero_grad()
            loss(model(image), mask).backward()
            optimizer.step()
            schedule.step()
    seconds = time.perf_counter() - start
    model.eval()
    counts = []
    with torch.inference_mode():
        for image, mask in DataLoader(Pets(dataset, split.test, flip=False), batch_size=32, num_workers=2):
            counts.append(smp.metrics.get_stats((model(image) > 0).long(), mask.long(), mode="binary"))
    tp, fp, fn, tn = (torch.cat(parts) for parts in zip(*counts, strict=True))
    return float(smp.metrics.iou_score(tp, fp, fn, tn, reduction="micro")), seconds


def ours(folder: Path, epochs: int, seed: int) -> tuple[float, float]:
    """IoU on the test photos and seconds of training, validation after every epoch included."""
    config = FinetuneConfig.model_validate(
        {
            "data": {"dataset": "oxford_pets", "image_size": SIZE, "augmentation": "flip"},
            "model": {"pretrained": "none", "backbone": "resnet18"},
            "training": {
                "optimizer": "adamw",
                "weight_decay": 0.01,
                "learning_rate": RATE,
                "schedule": "one-cycle",
                "epochs": epochs,
                "batch_size": BATCH,
                "ema": None,
            },
            "run": {"seed": seed, "name": f"seed{seed}"},
            "console": {"runs": str(folder)},
        }
    )
    clock = Clock()
    result = finetune(config, observers=[clock])
    return result.test["training"]["metrics"]["iou"], clock.seconds


class Clock:
    """Seconds from the first step to the end of the last epoch."""

    def on_start(self, plan) -> None:
        self.start = time.perf_counter()

    def on_step(self, record) -> None: ...

    def on_epoch(self, record) -> None: ...

    def on_end(self) -> None:
        self.seconds = time.perf_counter() - self.start


def main(epochs: int = 20, seeds: int = 3) -> None:
    logging.basicConfig(level=logging.WARNING)
    dataset = open_dataset("oxford_pets")
    split = make_split(dataset.keys, official=dataset.official)
    results: dict[str, list[tuple[float, float]]] = {"plain script": [], "simclrseg": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):  # interleaved, so that noise falls on both
            results["plain script"].append(plain_script(dataset, split, epochs, seed))
            results["simclrseg"].append(ours(Path(folder), epochs, seed))
            print(seed, {name: values[-1] for name, values in results.items()}, flush=True)
    images = epochs * len(split.train)
    print(machine())
    print_table(
        [f"{epochs} epochs, {len(split.train)} photos", "IoU, mean", "each seed", "images/s, median"],
        [
            [
                name,
                f"{statistics.mean(iou for iou, _ in values):.4f}",
                " ".join(f"{iou:.4f}" for iou, _ in values),
                f"{images / statistics.median(seconds for _, seconds in values):.1f}",
            ]
            for name, values in results.items()
        ],
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
