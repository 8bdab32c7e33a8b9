"""`simclrseg finetune`: photos with masks in, a segmentation model out."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import simclrseg
from simclrseg import distributed, plots, runs
from simclrseg.config import FinetuneConfig
from simclrseg.data.cache import cached
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.loader import Loader
from simclrseg.data.samples import MaskPairs
from simclrseg.data.splits import split_json, test_hash
from simclrseg.engine.history import Observer
from simclrseg.errors import GateError, OutputError, UsageError
from simclrseg.exporters.onnx import export_onnx
from simclrseg.files import write_text
from simclrseg.knobs import stored_values
from simclrseg.losses import LOSSES
from simclrseg.metadata import IMAGENET_MEAN, IMAGENET_STD, MODEL_FILE, ONNX_FILE, ModelMetadata
from simclrseg.models import SEGMENTERS
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import load_backbone, read_metadata, save_weights
from simclrseg.recipes._forecast import suggested
from simclrseg.recipes._pretrained import Pretrained, find_pretrained
from simclrseg.recipes._segmenter import (
    example_rows,
    open_labelled,
    predictor,
    readable_photos,
    results,
    score_photos,
    segmenter_task,
    tell,
)
from simclrseg.recipes._training import (
    Machine,
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
    source_commit,
    spread,
    train,
    weights_of,
)
from simclrseg.tasks.segmentation import Segmentation

log = logging.getLogger(__name__)

DECODER = "unet"
DEFAULT_BACKBONE = "resnet50"
EXAMPLES = 6


def finetune(config: FinetuneConfig, *, observers: Sequence[Observer] = ()) -> dict[str, Any]:
    """Train a U-Net on photos with masks, score its best epoch on the test photos once, export it.

    Returns:
        What the command prints: the run's folder, its files, the test scores, the next command.

    Raises:
        GateError: if everything worked but the exported model disagrees; the run is finished without it.
        SimclrsegError: for everything else that a user can mend; a run that never began leaves nothing behind.
    """
    machine = prepare_machine(config.hardware, config.hardware.precision)
    loggers = find_loggers(config)
    resumed_run("finetune", config)  # refuses a changed configuration before anything is read
    pretrained = find_pretrained(
        config.model.pretrained,
        root=Path(config.console.runs),
        encoder=config.model.backbone or DEFAULT_BACKBONE,
        allow_unfinished=config.model.allow_unfinished,
    )
    source = read_metadata(pretrained.file) if pretrained.file else None
    encoder = encoder_of(config, pretrained, source)
    torch.manual_seed(config.run.seed)
    backbone = build_backbone(encoder)
    report = load_backbone(backbone, pretrained.file, adapt=config.model.adapt) if pretrained.file else None
    if report is not None:
        log.info(f"{pretrained.label}: {report}")
    if source is not None and source.stem == "cifar":
        log.warning(
            f"{pretrained.label} was pretrained with the CIFAR stem: stride 2 and max-pool come back here, "
            "so its early features change"
        )

    with distributed.main_first():  # it may have to be downloaded
        dataset, split = open_labelled(config.data)
    tell(dataset, split)
    check_batch(config.training.batch_size, len(split.train), "training photos")
    classes = len(dataset.classes)
    loss = config.training.loss or ("bce" if classes == 2 else "ce")
    if loss == "bce" and classes > 2:
        raise UsageError(f"--loss bce is for two classes, and {config.data.dataset} has {classes}: pass --loss ce")
    outputs = 1 if classes == 2 and loss == "bce" else classes
    model = SEGMENTERS[DECODER](backbone, encoder, outputs)
    metadata = ModelMetadata(
        task="segmentation",
        method=source.method if source else None,
        encoder=encoder,
        decoder=DECODER,
        mean=source.mean if source else IMAGENET_MEAN,
        std=source.std if source else IMAGENET_STD,
        image_size=config.data.image_size,
        classes=dataset.classes,
        colours=dataset.colours,
        threshold=0.5 if outputs == 1 else None,
        border=dataset.border,
        dataset=config.data.dataset,
        data=stored_values(config)["data"],
        split_seed=config.data.split_seed,
        test_hash=test_hash(dataset, split.test),
        pretrained=pretrained.label,
        epochs=config.training.epochs,
        version=simclrseg.__version__,
        commit=source_commit(),
    )
    task = segmenter_task(model, metadata, LOSSES[loss])
    pairs = cached(dataset, [*split.train, *split.validation], where=config.data.cache, masks=True)
    samples = MaskPairs(
        pairs,
        split.train,
        image_size=config.data.image_size,
        flip=0.5 if config.data.augmentation == "flip" else 0.0,
        seed=config.run.seed,
        strict=config.data.strict,
    )
    batches = Loader(
        samples,
        batch_size=config.training.batch_size,
        seed=config.run.seed,
        shuffle=True,
        # batch norm has nothing to learn from a batch of one
        drop_last=len(split.train) % config.training.batch_size == 1,
        threads=machine.workers,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    validation = Loader(
        MaskPairs(
            pairs, split.validation, image_size=config.data.image_size, flip=0.0, seed=0, strict=config.data.strict
        ),
        batch_size=config.training.batch_size,
        shuffle=False,
        drop_last=False,
        threads=machine.workers,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    if config.run.dry_run:
        return rehearse(task, batches, config=config, machine=machine, learning_rate=config.training.peak_rate)
    with open_run(
        "finetune",
        config,
        name=run_name(config, pretrained),
        machine=machine,
        learning_rate=config.training.peak_rate,
        loss=loss,
        encoder=encoder,
        test_hash=metadata.test_hash,
    ) as run:
        if distributed.is_main():
            write_text(
                run.folder / "split.json", json.dumps(split_json(dataset, split, metadata.test_hash), indent=1) + "\n"
            )
        if report is not None and distributed.is_main():
            write_text(run.folder / "load_report.json", json.dumps(dataclasses.asdict(report), indent=1) + "\n")
        micro_batch = choose_micro_batch(config.training.micro_batch, task, batches, machine=machine, run=run)
        result = train(
            task,
            batches,
            validation,
            run=run,
            machine=machine,
            training=config.training,
            learning_rate=config.training.peak_rate,
            micro_batch=micro_batch,
            saving=config.run,
            suggestion=suggested(config, machine.device),
            observers=[*observers, *make_loggers(loggers, run, config)],
        )
        report_skipped(samples.skipped)
        if not distributed.dismiss():
            return {}
        test = score_test(run, task, dataset, split.test, metadata=metadata, machine=machine, config=config)
        metadata = metadata.model_copy(update={"metrics": test["original"]["metrics"]})
        save_weights(run.folder / MODEL_FILE, weights_of(model), metadata)
        write_text(run.folder / "test.json", json.dumps(test, indent=1) + "\n")
        problem = export_run(run, model, dataset, split.test, metadata)
        finish_run(run)
    if problem is not None:
        raise GateError(
            f"{problem}; the run is finished without {ONNX_FILE}: try `simclrseg export {run.name}` later"
        ) from problem
    return {
        "run": str(run.folder),
        "model": str(run.folder / MODEL_FILE),
        "onnx": str(run.folder / ONNX_FILE),
        "best_epoch": result.best_epoch,
        "validation": result.best,
        "test": test,
        "next": "simclrseg predict photo.jpg -o mask.png",
    }


def score_test(
    run: runs.Run,
    task: Segmentation,
    dataset: Dataset,
    test: Sequence[int],
    *,
    metadata: ModelMetadata,
    machine: Machine,
    config: FinetuneConfig,
) -> dict[str, dict[str, Any]]:
    """Score the test photos, once, and show some of them in ``examples.png``."""
    scores = score_photos(
        task, dataset, test, metadata=metadata, machine=machine, batch_size=config.training.batch_size
    )
    rows = example_rows(predictor(task, machine), dataset, spread(test, EXAMPLES), metadata)
    if rows:
        plots.examples(rows, dataset.colours, run.folder / "examples.png")
    return results(scores, split="test", metadata=metadata)


def export_run(
    run: runs.Run, model: nn.Module, dataset: Dataset, test: Sequence[int], metadata: ModelMetadata
) -> Exception | None:
    """Write ``model.onnx`` and check it on test photos; what went wrong is returned, for the run is worth finishing."""
    side = (metadata.image_size, metadata.image_size)
    try:
        photos, masks = readable_photos(dataset, spread(test, EXAMPLES), side)
        export_onnx(model, run.folder / ONNX_FILE, metadata, photos=photos, truths=masks)
    except (GateError, OutputError) as error:
        return error
    return None


def encoder_of(config: FinetuneConfig, pretrained: Pretrained, source: ModelMetadata | None) -> str:
    """The encoder's name: the file's where it says one, else the command line's.

    Raises:
        UsageError: if the two contradict each other.
    """
    asked = config.model.backbone
    if source is None:
        if pretrained.file is not None and asked is None:
            raise UsageError(f"{pretrained.file} does not say which encoder it holds: name it with --backbone")
        return asked or DEFAULT_BACKBONE
    if asked is not None and asked != source.encoder:
        raise UsageError(f"--backbone {asked} contradicts --pretrained {pretrained.label}, which is a {source.encoder}")
    return source.encoder


def run_name(config: FinetuneConfig, pretrained: Pretrained) -> str:
    """``<dataset>-<pretrained>``, and ``-r0.5`` where only a share of the photos is used."""
    name = f"{dataset_label(config.data.dataset)}-{dataset_label(pretrained.label)}"
    return name if config.data.data_ratio == 1 else f"{name}-r{config.data.data_ratio:g}"
