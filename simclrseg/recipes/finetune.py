"""`simclrseg finetune`: photos with masks or labels in, a segmentation or classification model out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from simclrseg.data.splits import Split, split_json
from simclrseg.engine.footprint import least_together
from simclrseg.engine.freezing import Freezing
from simclrseg.engine.history import Observer
from simclrseg.errors import GateError, SimclrsegError, UsageError
from simclrseg.exporters.onnx import export_onnx
from simclrseg.files import write_json
from simclrseg.hardware import explained_shortage
from simclrseg.inference.masks import Predict
from simclrseg.knobs import stored_values
from simclrseg.metadata import MODEL_FILE, ONNX_FILE, ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import load_backbone, read_metadata, save_weights
from simclrseg.recipes._companion import check_before_fetching, with_dataset
from simclrseg.recipes._decoder import load_decoder
from simclrseg.recipes._forecast import in_words, suggested
from simclrseg.recipes._labelled import Network, make_samples, predictor, readable_photos
from simclrseg.recipes._normalization import choose_normalization
from simclrseg.recipes._pretrained import (
    IMAGENET,
    LOAD_REPORT,
    PRETRAINED_FILE,
    Pretrained,
    begun_with,
    find_pretrained,
    recorded_file,
    tell_loaded,
)
from simclrseg.recipes._seen import warn_if_seen
from simclrseg.recipes._tasks import TASKS, FinetuningTask
from simclrseg.recipes._training import (
    Machine,
    as_begun,
    check_batch,
    check_micro_batch,
    choose_micro_batch,
    dataset_label,
    find_loggers,
    finish_run,
    finishing,
    make_loggers,
    open_run,
    prepare_machine,
    rehearse,
    report_skipped,
    resumed_run,
    source_commit,
    spread,
    train,
)
from simclrseg.recipes._unfreezing import freezing_of, scales_of

log = logging.getLogger(__name__)

DEFAULT_BACKBONE = "resnet50"
CHECKED = 6  # test photos that the exported model is checked on


@dataclass(frozen=True)
class Prepared:
    """What a run needs to begin; nothing of it is written yet.

    Attributes:
        config: with the dataset that is meant where none was named.
        recipe: the module of the task.
        pairs: the dataset as training and validation read it.
        loaded: what ``LOAD_REPORT`` will hold; empty where nothing was loaded.
        batches, validation: to train with, and to compare the epochs on.
        together: images that a forward pass of training must have, of ``least_together``.
    """

    config: FinetuneConfig
    recipe: FinetuningTask[Any]
    pretrained: Pretrained
    dataset: Dataset
    split: Split
    pairs: Dataset
    task: Network
    loss: str
    metadata: ModelMetadata
    loaded: dict[str, Any]
    scales: Mapping[nn.Parameter, float]
    freezing: Freezing | None
    batches: Loader
    validation: Loader
    together: int


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
    resumed = resumed_run("finetune", config)  # refuses a changed configuration before anything is read
    machine = as_begun(machine, resumed)
    prepared = prepare(config, machine, resumed)
    config, recipe, task, metadata = prepared.config, prepared.recipe, prepared.task, prepared.metadata
    dataset, split, batches, together = prepared.dataset, prepared.split, prepared.batches, prepared.together
    rate = config.training.peak_rate
    if config.run.dry_run:
        return rehearse(task, batches, together=together, config=config, machine=machine, learning_rate=rate)
    with open_run(
        "finetune",
        config,
        name=run_name(config, prepared.pretrained),
        machine=machine,
        photos=[dataset.keys[index] for index in (*split.train, *split.validation, *split.test)],
        learning_rate=rate,
        loss=prepared.loss,
        encoder=metadata.encoder,
        test_hash=metadata.test_hash,
        **{PRETRAINED_FILE: recorded_file(prepared.pretrained, resumed)},
    ) as run:
        if distributed.is_main():
            write_json(run.folder / "split.json", split_json(dataset, split, metadata.test_hash))
            if prepared.loaded:
                write_json(run.folder / LOAD_REPORT, prepared.loaded)
        micro_batch = choose_micro_batch(
            config.training.micro_batch, task, batches, together=together, machine=machine, run=run
        )
        predict = predictor(task, machine, batch_size=micro_batch)
        result = train(
            task,
            batches,
            prepared.validation,
            run=run,
            machine=machine,
            training=config.training,
            learning_rate=rate,
            micro_batch=micro_batch,
            together=together,
            freezing=prepared.freezing,
            scales=prepared.scales,
            saving=config.run,
            suggestion=suggested(config, machine.device),
            average=config.training.ema,
            patience=config.training.patience,
            observers=[
                *observers,
                *recipe.watchers(config, run.folder, predict, prepared.pairs, split.validation, metadata=metadata),
                *make_loggers(loggers, run, config),
            ],
        )
        report_skipped(batches.samples.skipped)
        seconds = result.history[-1].seconds * distributed.world_size() / (len(split.train) + len(split.validation))
        if not distributed.dismiss():
            return {}
        metadata = metadata.model_copy(update={"epochs": len(result.history)})
        with finishing(run, "scoring", task, batches, micro_batch=micro_batch, together=together):
            log.info(f"scoring {len(split.test):,} test photos, about {in_words(max(1, seconds * len(split.test)))}")
            test, problem = score_and_export(
                run, recipe, task.model, predict, dataset, split.test, metadata, machine=machine, batch_size=micro_batch
            )
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


def prepare(config: FinetuneConfig, machine: Machine, resumed: runs.Run | None = None) -> Prepared:
    """Check everything that training needs, and make it.

    Args:
        resumed: the run to continue, if it is not a new one.

    Raises:
        SimclrsegError: for what a user can mend.
    """
    recipe = TASKS[config.model.task]
    pretrained, source, encoder = starting_weights(config, recipe, resumed)
    if config.data.dataset is None:
        config = with_dataset(config, source.dataset if source else "")
        log.info(f"fine-tuning on {config.data.name}, which belongs to {pretrained.label} (--dataset names others)")
    with distributed.main_first():  # it may have to be downloaded
        dataset, split = recipe.open_labelled(config.data)
    recipe.tell(dataset, split)
    check_batch(config.training.batch_size, len(split.train), "training photos")
    loss = recipe.loss_of(config, dataset)
    warn_if_seen(dataset, split.test, source)
    torch.manual_seed(config.run.seed)
    backbone, stem, loaded = starting_encoder(config, recipe, encoder, pretrained, source, bands=dataset.bands)
    pairs = cached(
        dataset,
        [*split.train, *split.validation],
        where=config.data.cache,
        masks=recipe.MASKS,
        write=not config.run.dry_run,
    )
    normalization = choose_normalization(
        config.data.normalization, pairs, split.train, source=source, threads=machine.workers
    )
    model, facts = recipe.build_model(config, backbone, encoder, dataset)
    facts |= {"encoder": encoder, "stem": stem, "mean": normalization.mean, "std": normalization.std}
    metadata = describe_model(config, recipe, dataset, split, source, pretrained=pretrained.label, **facts)
    if config.model.init_decoder and pretrained.file is not None:
        loaded["decoder"] = asdict(load_decoder(model, pretrained))
    task = recipe.training_task(
        config, model, metadata, loss, dataset=dataset, pairs=pairs, split=split, threads=machine.workers
    )
    batches, validation = make_loaders(config, recipe, pairs, split, threads=machine.workers)
    freezing = freezing_of(config.training, model, backbone)
    together = least_together(task, batches.samples.fields)
    if resumed is None or not resumed.holds(MODEL_FILE):  # else there is nothing more to train
        check_micro_batch(config.training.micro_batch, together)
    return Prepared(
        config=config,
        recipe=recipe,
        pretrained=pretrained,
        dataset=dataset,
        split=split,
        pairs=pairs,
        task=task,
        loss=loss,
        metadata=metadata,
        loaded=loaded,
        scales=scales_of(config.training, backbone),
        freezing=freezing,
        batches=batches,
        validation=validation,
        together=together,
    )


def starting_weights(
    config: FinetuneConfig, recipe: FinetuningTask[Any], resumed: runs.Run | None
) -> tuple[Pretrained, ModelMetadata | None, str]:
    """The weights that the encoder starts from, what their file says of them, and the encoder's name.

    Args:
        resumed: the run to continue, whose state holds them.

    Raises:
        SimclrsegError: if they cannot be had, or the task cannot be learned with this encoder.
    """
    if (begun := begun_with(resumed)) is not None:
        return *begun, encoder_of(config, *begun)
    check_before_fetching(config)
    asked = config.model.backbone or DEFAULT_BACKBONE
    if config.model.backbone is not None or config.model.pretrained in ("none", IMAGENET):
        recipe.check_encoder(config, asked)  # before anything is fetched
    pretrained = find_pretrained(
        config.model.pretrained,
        root=Path(config.console.runs),
        encoder=asked,
        allow_unfinished=config.model.allow_unfinished,
    )
    source = read_metadata(pretrained.file) if pretrained.file else None
    encoder = encoder_of(config, pretrained, source)
    recipe.check_encoder(config, encoder)
    return pretrained, source, encoder


def starting_encoder(
    config: FinetuneConfig,
    recipe: FinetuningTask[Any],
    encoder: str,
    pretrained: Pretrained,
    source: ModelMetadata | None,
    *,
    bands: Sequence[str],
) -> tuple[nn.Module, str, dict[str, Any]]:
    """The encoder with the weights that it starts from, its stem, and what ``LOAD_REPORT`` will hold."""
    backbone = build_backbone(encoder, in_channels=len(bands))
    stem = recipe.set_stem(backbone, encoder, source, config)
    if pretrained.file is None:
        return backbone, stem, {}
    report = load_backbone(backbone, pretrained.file, bands=bands, adapt=config.model.adapt)
    tell_loaded(pretrained.label, report)
    said = source and source.model_dump(mode="json")
    return backbone, stem, {**asdict(report), "weights": pretrained.label, "metadata": said}


def describe_model(
    config: FinetuneConfig,
    recipe: FinetuningTask[Any],
    dataset: Dataset,
    split: Split,
    source: ModelMetadata | None,
    **facts: Any,
) -> ModelMetadata:
    """What the model's file will say of it, before it is trained.

    Args:
        source: of the weights that it starts from.
        facts: of the network.
    """
    learned = photo_hashes(dataset, [*split.train, *split.validation])
    return ModelMetadata(
        method=source.method if source else None,
        in_channels=len(dataset.bands),
        bands=dataset.bands,
        full_scale=dataset.full_scale,
        image_size=config.data.image_size,
        dataset=config.data.name,
        include_test=source.include_test if source else False,
        seen=joined(source.seen if source else "", record(learned)),
        data=stored_values(config)["data"],
        split_seed=config.data.split_seed,
        test_hash=recipe.hash_of_test(dataset, split.test),
        epochs=config.training.epochs,
        version=simclrseg.__version__,
        commit=source_commit(),
        **facts,
    )


def make_loaders(
    config: FinetuneConfig, recipe: FinetuningTask[Any], pairs: Dataset, split: Split, *, threads: int
) -> tuple[Loader, Loader]:
    """The batches to train with, and those that epochs are compared on."""
    batch_size = config.training.batch_size
    shared = {
        "batch_size": batch_size,
        "threads": threads,
        "rank": distributed.rank(),
        "world_size": distributed.world_size(),
    }
    batches = Loader(
        make_samples(recipe.SAMPLES, config, pairs, split.train, augmentation=config.data.augmentation),
        seed=config.run.seed,
        shuffle=True,
        drop_last=len(split.train) % batch_size == 1,  # batch norm has nothing to learn from a batch of one
        **shared,
    )
    validation = Loader(
        make_samples(recipe.SAMPLES, config, pairs, split.validation, augmentation="none"),
        shuffle=False,
        drop_last=False,
        **shared,
    )
    return batches, validation


def score_and_export(
    run: runs.Run,
    recipe: FinetuningTask[Any],
    model: nn.Module,
    predict: Predict,
    dataset: Dataset,
    test: Sequence[int],
    metadata: ModelMetadata,
    *,
    machine: Machine,
    batch_size: int,
) -> tuple[dict[str, Any], Exception | None]:
    """Save the trained network, score it on the test photos, once, and write its other files.

    Args:
        predict: the network as a function of photos.

    Returns:
        What ``test.json`` holds, and what went wrong with ``model.onnx``.
    """
    save_weights(run.folder / MODEL_FILE, model.state_dict(), metadata)  # before anything else can fail
    scores = recipe.score_predictions(
        predict, dataset, test, metadata=metadata, workers=machine.workers, batch_size=batch_size
    )
    found = recipe.results(scores, split="test", metadata=metadata)
    metadata = metadata.model_copy(update={"metrics": recipe.headline(found)["metrics"]})
    save_weights(run.folder / MODEL_FILE, model.state_dict(), metadata)
    write_json(run.folder / "test.json", found)
    recipe.draw_test(run.folder, predict, dataset, test, scores, metadata=metadata)
    return found, export_run(run, model, dataset, test, metadata)


def export_run(
    run: runs.Run, model: nn.Module, dataset: Dataset, test: Sequence[int], metadata: ModelMetadata
) -> Exception | None:
    """Write ``model.onnx`` and check it on test photos; what went wrong is returned, for the run is worth finishing."""
    side = (metadata.image_size, metadata.image_size)
    try:
        with explained_shortage("in the export", "free some memory"):
            photos, masks = readable_photos(dataset, spread(test, CHECKED), side)
            export_onnx(model, run.folder / ONNX_FILE, metadata, photos=photos, truths=masks)
    except SimclrsegError as error:
        return error
    except Exception as error:  # of PyTorch's exporter or ONNX Runtime
        reason = next(iter(str(error).splitlines()), "")[:160]
        failure = GateError(f"the export failed ({type(error).__name__}: {reason})")
        failure.__cause__ = error
        return failure
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
    name = f"{dataset_label(config.data.name)}-{dataset_label(pretrained.label)}"
    share = "" if config.data.data_ratio == 1 else f"-r{config.data.data_ratio:g}"
    return name + share + (f"-fold{config.data.fold.replace('/', 'of')}" if config.data.fold else "")
