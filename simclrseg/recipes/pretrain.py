"""`simclrseg pretrain`: unlabelled photos in, a backbone out."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from simclrseg import distributed, plots
from simclrseg.config import PretrainConfig, PretrainData
from simclrseg.data.augment import STRENGTHS, Strengths, adjusted
from simclrseg.data.cache import cached
from simclrseg.data.datasets.base import Dataset, DatasetOptions
from simclrseg.data.datasets.joined import join
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import TwoViews
from simclrseg.engine.history import Observer
from simclrseg.errors import UsageError
from simclrseg.metadata import BACKBONE_FILE, IMAGENET_MEAN, IMAGENET_STD
from simclrseg.models.backbones import build_backbone
from simclrseg.models.stems import choose_stem, set_cifar_stem
from simclrseg.models.weights import load_backbone, read_metadata
from simclrseg.recipes._backbone import save_backbone
from simclrseg.recipes._card import write_card
from simclrseg.recipes._forecast import suggested
from simclrseg.recipes._monitor import CollapseWarning, knn_batches, lowest_rank
from simclrseg.recipes._pretrained import find_pretrained
from simclrseg.recipes._training import (
    check_batch,
    choose_micro_batch,
    dataset_label,
    find_loggers,
    finish_run,
    make_loggers,
    open_run,
    prepare_machine,
    rehearse,
    report_skipped,
    resumed_run,
    spread,
    train,
    weights_of,
)
from simclrseg.tasks import METHODS

log = logging.getLogger(__name__)

EXAMPLES = 8
# Runs named after what they are good for rather than after their dataset.
RUN_NAMES = {"cats_vs_dogs": "pets", "cifar10": "cifar"}


def pretrain(config: PretrainConfig, *, observers: Sequence[Observer] = ()) -> dict[str, Any]:
    """Train a backbone without labels.

    Returns:
        What the command prints: the run's folder, its files, the last epoch's figures, the next command.

    Raises:
        SimclrsegError: for everything that a user can mend; a run that never began leaves nothing behind.
    """
    machine = prepare_machine(config.hardware, config.hardware.precision)
    loggers = find_loggers(config)
    resumed_run("pretrain", config)  # refuses a changed configuration before anything is read
    torch.manual_seed(config.run.seed)
    backbone, stem, init = starting_backbone(config)
    task = METHODS[config.model.method](
        backbone,
        projection_hidden=config.model.projection_hidden,
        projection_dim=config.model.projection_dim,
        temperature=config.model.temperature,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    with distributed.main_first():  # it may have to be downloaded
        dataset, indices = photos_to_learn_from(config.data.dataset, include_test=config.data.include_test)
    check_batch(config.training.batch_size, len(indices), "photos")
    dataset = cached(dataset, indices, where=config.data.cache)
    samples = TwoViews(
        dataset,
        indices,
        image_size=config.data.image_size,
        strengths=strengths_of(config.data),
        seed=config.run.seed,
        strict=config.data.strict,
    )
    batches = Loader(
        samples,
        batch_size=config.training.batch_size,
        seed=config.run.seed,
        shuffle=True,
        drop_last=True,
        threads=machine.workers,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    probe = knn_batches(dataset, indices, config, threads=machine.workers)
    rate = config.training.scaled_rate
    log.info(
        f"{len(indices):,} photos, {len(batches)} steps an epoch, batch {config.training.batch_size}, "
        f"{config.training.optimizer} at {rate:.4g}, chance level of the loss "
        f"{math.log(2 * config.training.batch_size - 1):.2f}"
    )
    if config.run.dry_run:
        return rehearse(task, batches, config=config, machine=machine, learning_rate=rate)
    with open_run(
        "pretrain",
        config,
        name=run_name(config.data.dataset),
        machine=machine,
        learning_rate=rate,
        photos=len(indices),
        stem=stem,
        init=init,
    ) as run:
        if distributed.is_main():
            plots.views(first_views(samples), run.folder / "augmentations.png")
        micro_batch = choose_micro_batch(config.training.micro_batch, task, batches, machine=machine, run=run)
        result = train(
            task,
            batches,
            probe,
            validate_every=config.run.knn_every,
            keep="last",  # a rank among checkpoints by k-NN would be a choice by labels
            run=run,
            machine=machine,
            training=config.training,
            learning_rate=rate,
            micro_batch=micro_batch,
            saving=config.run,
            suggestion=suggested(config, machine.device),
            observers=[
                *observers,
                CollapseWarning(lowest_rank(backbone, micro_batch), warmup=config.training.warmup),
                *make_loggers(loggers, run, config),
            ],
        )
        report_skipped(samples.skipped)
        if not distributed.dismiss():
            return {}
        metrics = result.last | result.history[-1].validation
        metadata = save_backbone(
            run.folder,
            weights_of(backbone),
            config,
            stem=stem,
            init=init,
            epochs=config.training.epochs,
            metrics=metrics,
        )
        write_card(run.folder, metadata, config=config, photos=len(indices))
        finish_run(run)
    return {
        "run": str(run.folder),
        "backbone": str(run.folder / BACKBONE_FILE),
        "metrics": metrics,
        "next": f"simclrseg finetune --pretrained {run.name}",
    }


def strengths_of(data: PretrainData) -> Strengths:
    """The chosen augmentation, with the strengths that are given beside it."""
    return adjusted(
        STRENGTHS[data.augmentation],
        crop_scale=data.crop_scale,
        color_strength=data.color_strength,
        blur_probability=data.blur_probability,
        grayscale_probability=data.grayscale_probability,
    )


def starting_backbone(config: PretrainConfig) -> tuple[nn.Module, str, str | None]:
    """The encoder with the weights that it starts from.

    Returns:
        The encoder, its stem, and what the weights are called; None where they are random.

    Raises:
        UsageError: if the weights are another encoder's, or it cannot have the stem.
    """
    name = config.model.backbone
    init = find_pretrained(config.model.init, root=Path(config.console.runs), encoder=name, option="--init")
    source = read_metadata(init.file) if init.file else None
    if source is not None and source.encoder != name:
        raise UsageError(f"--init {init.label} is a {source.encoder}: pass --backbone {source.encoder}")
    backbone = build_backbone(name)
    asked: str = config.model.stem
    if asked == "auto" and init.file is not None:
        asked = source.stem if source else "imagenet"  # go on with what the weights were trained in
    stem = choose_stem(asked, backbone, name, image_size=config.data.image_size)
    if stem == "cifar":
        set_cifar_stem(backbone)
    if init.file is None:
        return backbone, stem, None
    log.info(f"{init.label}: {load_backbone(backbone, init.file, adapt=config.model.adapt)}")
    return backbone, stem, init.label


def photos_to_learn_from(names: Sequence[str], *, include_test: bool) -> tuple[Dataset, list[int]]:
    """Open and join the datasets.

    Returns:
        The joined dataset and the photos to use: all but those of published test lists.
    """
    datasets = [open_dataset(name, DatasetOptions(masks=False)) for name in names]
    for dataset in datasets:
        for line in dataset.summary:
            log.info(line)
    joined = join(datasets)
    held_out = set() if include_test else set(joined.official.get("test", ()))
    if held_out:
        log.info(f"{len(held_out):,} photos of published test lists are left out (--include-test takes them)")
    return joined, [index for index in range(len(joined)) if index not in held_out]


def first_views(samples: TwoViews) -> np.ndarray:
    """(n, 2, S, S, 3) uint8: what the network will see of some photos in its first epoch."""
    positions = np.array(spread(range(len(samples)), EXAMPLES))
    rows = {name: np.empty((len(positions), *shape), dtype) for name, (shape, dtype) in samples.fields.items()}
    samples.fill(0, positions, rows)
    return rows["image"]


def run_name(datasets: Sequence[str]) -> str:
    """A run is named after its first dataset."""
    return RUN_NAMES.get(datasets[0], dataset_label(datasets[0]))
