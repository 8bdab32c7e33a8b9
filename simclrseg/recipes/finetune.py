"""`simclrseg finetune`: photos with masks or labels in, a segmentation or classification model out."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import simclrseg
from simclrseg import distributed, runs
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.data.cache import cached
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.loader import Loader
from simclrseg.data.seen import joined, photo_hashes, record
from simclrseg.data.splits import split_json
from simclrseg.engine.history import Observer
from simclrseg.errors import GateError, OutputError, UsageError
from simclrseg.exporters.onnx import export_onnx
from simclrseg.files import write_json
from simclrseg.knobs import stored_values
from simclrseg.metadata import MODEL_FILE, ONNX_FILE, ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import load_backbone, read_metadata, save_weights
from simclrseg.recipes._decoder import load_decoder
from simclrseg.recipes._forecast import suggested
from simclrseg.recipes._labelled import make_samples, predictor, readable_photos
from simclrseg.recipes._normalization import choose_normalization
from simclrseg.recipes._pretrained import IMAGENET, Pretrained, find_pretrained, tell_loaded
from simclrseg.recipes._seen import warn_if_seen
from simclrseg.recipes._tasks import TASKS
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
    source_commit,
    spread,
    train,
    weights_of,
)
from simclrseg.recipes._unfreezing import freezing_of, scales_of

log = logging.getLogger(__name__)

DEFAULT_BACKBONE = "resnet50"
CHECKED = 6  # test photos that the exported model is checked on


def finetune(config: FinetuneConfig, *, observers: Sequence[Observer] = ()) -> dict[str, Any]:
    """Train a network on labelled photos, score its best epoch on the test photos once, export it.

    Returns:
        What the command prints: the run's folder, its files, the test scores, the next command.

    Raises:
        GateError: if everything worked but the exported model disagrees; the run is finished without it.
        SimclrsegError: for everything else that a user can mend; a run that never began leaves nothing behind.
    """
    machine = prepare_machine(config.hardware, config.hardware.precision)
    loggers = find_loggers(config)
    resumed_run("finetune", config)  # refuses a changed configuration before anything is read
    recipe = TASKS[config.model.task]
    if config.model.backbone is not None or config.model.pretrained in ("none", IMAGENET):
        recipe.check_encoder(config, config.model.backbone or DEFAULT_BACKBONE)  # before anything is fetched
    pretrained = find_pretrained(
        config.model.pretrained,
        root=Path(config.console.runs),
        encoder=config.model.backbone or DEFAULT_BACKBONE,
        allow_unfinished=config.model.allow_unfinished,
    )
    source = read_metadata(pretrained.file) if pretrained.file else None
    encoder = encoder_of(config, pretrained, source)
    recipe.check_encoder(config, encoder)
    with distributed.main_first():  # it may have to be downloaded
        dataset, split = recipe.open_labelled(config.data)
    recipe.tell(dataset, split)
    check_batch(config.training.batch_size, len(split.train), "training photos")
    loss = recipe.loss_of(config, dataset)
    warn_if_seen(dataset, split.test, source)
    torch.manual_seed(config.run.seed)
    backbone = build_backbone(encoder, in_channels=len(dataset.bands))
    stem = recipe.set_stem(backbone, encoder, source, config)
    report = None
    if pretrained.file is not None:
        report = load_backbone(backbone, pretrained.file, bands=dataset.bands, adapt=config.model.adapt)
        tell_loaded(pretrained.label, report)
    pairs = cached(dataset, [*split.train, *split.validation], where=config.data.cache, masks=recipe.MASKS)
    normalization = choose_normalization(
        config.data.normalization, pairs, split.train, source=source, threads=machine.workers
    )
    model, facts = recipe.build_model(config, backbone, encoder, dataset)
    metadata = ModelMetadata(
        method=source.method if source else None,
        encoder=encoder,
        stem=stem,
        in_channels=len(dataset.bands),
        bands=dataset.bands,
        full_scale=dataset.full_scale,
        mean=normalization.mean,
        std=normalization.std,
        image_size=config.data.image_size,
        dataset=config.data.dataset,
        include_test=source.include_test if source else False,
        seen=joined(source.seen if source else "", record(photo_hashes(dataset, [*split.train, *split.validation]))),
        data=stored_values(config)["data"],
        split_seed=config.data.split_seed,
        test_hash=recipe.hash_of_test(dataset, split.test),
        pretrained=pretrained.label,
        epochs=config.training.epochs,
        version=simclrseg.__version__,
        commit=source_commit(),
        **facts,
    )
    decoder_report = load_decoder(model, pretrained) if config.model.init_decoder else None
    task = recipe.training_task(
        config, model, metadata, loss, dataset=dataset, pairs=pairs, split=split, threads=machine.workers
    )
    scales = scales_of(config.training, backbone)
    freezing = freezing_of(config.training, model, backbone)
    samples = make_samples(recipe.SAMPLES, config, pairs, split.train, augmentation=config.data.augmentation)
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
        make_samples(recipe.SAMPLES, config, pairs, split.validation, augmentation="none"),
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
            write_json(run.folder / "split.json", split_json(dataset, split, metadata.test_hash))
        if report is not None and distributed.is_main():
            loaded = dataclasses.asdict(report)
            if decoder_report is not None:
                loaded["decoder"] = dataclasses.asdict(decoder_report)
            write_json(run.folder / "load_report.json", loaded)
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
            freezing=freezing,
            scales=scales,
            saving=config.run,
            suggestion=suggested(config, machine.device),
            average=config.training.ema,
            patience=config.training.patience,
            observers=[
                *observers,
                *recipe.watchers(config, run.folder, task, pairs, split.validation, metadata=metadata, machine=machine),
                *make_loggers(loggers, run, config),
            ],
        )
        report_skipped(samples.skipped)
        if not distributed.dismiss():
            return {}
        scores = recipe.score_predictions(
            predictor(task, machine),
            dataset,
            split.test,
            metadata=metadata,
            workers=machine.workers,
            batch_size=config.training.batch_size,
        )
        test = recipe.results(scores, split="test", metadata=metadata)
        recipe.draw_test(run.folder, task, dataset, split.test, scores, metadata=metadata, machine=machine)
        found = {"metrics": recipe.headline(test)["metrics"], "epochs": len(result.history)}
        metadata = metadata.model_copy(update=found)
        save_weights(run.folder / MODEL_FILE, weights_of(model), metadata)
        write_json(run.folder / "test.json", test)
        problem = export_run(run, model, dataset, split.test, metadata)
        finish_run(run)
    if problem is not None:
        raise GateError(
            f"{problem}; the run is finished without {ONNX_FILE}: "
            f"try `simclrseg export {run.name}{runs.option(run.root)}` later"
        ) from problem
    return {
        "run": str(run.folder),
        "model": str(run.folder / MODEL_FILE),
        "onnx": str(run.folder / ONNX_FILE),
        "best_epoch": result.best_epoch,
        "validation": result.best,
        "test": test,
        "next": recipe.NEXT + runs.option(run.root),
    }


def export_run(
    run: runs.Run, model: nn.Module, dataset: Dataset, test: Sequence[int], metadata: ModelMetadata
) -> Exception | None:
    """Write ``model.onnx`` and check it on test photos; what went wrong is returned, for the run is worth finishing."""
    side = (metadata.image_size, metadata.image_size)
    try:
        photos, masks = readable_photos(dataset, spread(test, CHECKED), side)
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
    """``<dataset>-<pretrained>``; ``-r0.5`` says that a share of the photos is used, ``-fold1of5`` that a fold is."""
    name = f"{dataset_label(config.data.dataset)}-{dataset_label(pretrained.label)}"
    share = "" if config.data.data_ratio == 1 else f"-r{config.data.data_ratio:g}"
    return name + share + (f"-fold{config.data.fold.replace('/', 'of')}" if config.data.fold else "")
