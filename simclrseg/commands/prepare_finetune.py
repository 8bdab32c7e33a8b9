"""What `simclrseg finetune` trains, made and checked before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import simclrseg
from simclrseg.config.finetune import FinetuneConfig
from simclrseg.config.pretrain import command_that_makes
from simclrseg.data.cache import cached
from simclrseg.data.datasets.dataset import Dataset, is_photos
from simclrseg.data.loader import Loader, WithUnlabelled
from simclrseg.data.seen import image_hashes, joined, of_a_test_list, record, warn_if_seen
from simclrseg.engine.freezing import Freezing
from simclrseg.engine.task import Task
from simclrseg.errors import UsageError
from simclrseg.hub.table import FOUNDATIONS, encoders_of
from simclrseg.knobs.parsing import stored_values
from simclrseg.metadata import ModelMetadata
from simclrseg.models.backbones import build_backbone
from simclrseg.models.weights import load_backbone
from simclrseg.runs.names import RESERVED
from simclrseg.runs.run import Run, source_commit
from simclrseg.system import distributed
from simclrseg.system.threads import map_in_threads
from simclrseg.targets.base import Target, target_class
from simclrseg.targets.learner import Learner
from simclrseg.targets.unlabelled import open_unlabelled
from simclrseg.training.batches import tell_batch
from simclrseg.training.knobs import steps_of_epoch
from simclrseg.training.normalization import choose_normalization
from simclrseg.training.session import Session
from simclrseg.training.unfreezing import freezing_of, scales_of
from simclrseg.weights.companion import check_before_fetching, labelled_set
from simclrseg.weights.find import Pretrained, begun_with, encoder_of, find_pretrained, tell_loaded

log = logging.getLogger(__name__)

DEFAULT_BACKBONE = "resnet50"
FEW = 1_000
"""Training photos of which a start from weights that know everyday things is worth most."""


@dataclass(frozen=True)
class Prepared:
    """The parts of a training, made and checked; nothing is written yet.

    Attributes:
        requested: the configuration with the dataset that is meant where none was named.
        config: the same with what ``auto`` became.
        target: the labelled images and what is trained on them.
        pairs: the dataset as training and validation read it.
        unlabelled: a dataset and the images of it that are trained on without labels; None for none.
        task: what is trained, with the learner in it.
        loaded: what ``LOAD_REPORT`` will hold; empty where nothing was loaded.
        batches, validation: to train with, and to compare the epochs on.
    """

    requested: FinetuneConfig
    config: FinetuneConfig
    target: Target[Any, Any]
    pretrained: Pretrained
    pairs: Dataset
    unlabelled: tuple[Dataset, list[int]] | None
    learner: Learner
    task: Task
    loss: str
    metadata: ModelMetadata
    loaded: dict[str, Any]
    scales: Mapping[nn.Parameter, float]
    freezing: Freezing | None
    batches: Loader
    validation: Loader


def prepare(session: Session[FinetuneConfig]) -> Prepared:
    """Check everything that training needs, and make it."""
    config, machine, resumed = session.config, session.machine, session.resumed
    kind = target_class(config.target)
    pretrained, encoder = starting_weights(config, kind, resumed)
    source = pretrained.metadata
    if config.data.dataset is None:
        name = labelled_set(config.model.pretrained, source.dataset if source else "", config.model.task)
        config = config.model_copy(update={"data": config.data.model_copy(update={"dataset": name})})
        log.info(f"fine-tuning on {config.data.name}, which belongs to {pretrained.label} (--dataset names others)")
    with distributed.main_first():  # it may have to be downloaded
        target: Target[Any, Any] = kind.open(config.data, config.target, resumed=resumed is not None)
    dataset, split = target.dataset, target.split
    target.tell()
    stopping = "" if config.training.patience is None else ", --patience or not"
    few = split.doubts("the best epoch", f"the last one is kept{stopping}")
    for doubt in few:
        log.warning(doubt)
    unlabelled = open_unlabelled(config.data.unlabelled, target) if config.data.unlabelled else None
    requested, config = config, resolved(config, target.epoch_length, pretrained, resumed)
    if pretrained.from_scratch and resumed is None and len(split.train) < FEW and is_photos(dataset):
        log.info(
            f"{len(split.train)} photos teach little from random weights; of everyday things start with --pretrained "
            "imagenet or dinov2"
        )
    loss = target.loss_name
    if config.data.strict:
        check_readable(dataset, split.test, threads=machine.workers)
    warn_if_seen(dataset, split.test, source)
    torch.manual_seed(config.run.seed)
    backbone, stem, loaded = starting_encoder(config, target, encoder, pretrained)
    pairs = cached(
        dataset,
        [*split.train, *split.validation],
        where=config.data.cache,
        masks=target.MASKS,
        write=not config.run.dry_run,
        cropped=config.data.resize == "tile",
    )
    normalization = choose_normalization(
        config.data.normalization, pairs, split.train, source=source, threads=machine.workers
    )
    model, facts = target.build_model(backbone, encoder, dropout=config.model.dropout)
    facts |= {"doubts": few, "encoder": encoder, "stem": stem, **asdict(normalization)}
    metadata = distributed.from_main(
        lambda: describe_model(config, target, source, unlabelled, pretrained=pretrained.label, **facts)
    )
    loaded |= target.load_start(model, pretrained, metadata)
    learner = target.make_learner(model, metadata, pairs=pairs, threads=machine.workers)
    batches, validation = make_loaders(config, target, pairs, metadata, unlabelled, threads=machine.workers)
    task: Task = learner
    if unlabelled is not None:
        epochs = config.training.total_epochs
        task = target.make_consistency(learner, config.consistency, epochs=epochs, steps=len(batches))
    freezing = freezing_of(config.training, model, backbone)
    return Prepared(
        requested=requested,
        config=config,
        target=target,
        pretrained=pretrained,
        pairs=pairs,
        unlabelled=unlabelled,
        learner=learner,
        task=task,
        loss=loss,
        metadata=metadata,
        loaded=loaded,
        scales=scales_of(config.training, backbone),
        freezing=freezing,
        batches=batches,
        validation=validation,
    )


def check_readable(dataset: Dataset, indices: Sequence[int], *, threads: int) -> None:
    """Read images that training does not, to stop at one that cannot be read before it has taken its time."""

    def check(index: int) -> None:
        dataset.image(index)

    distributed.from_main(lambda: map_in_threads(check, indices, threads=threads, telling="test photos"))


def resolved(config: FinetuneConfig, images: int, pretrained: Pretrained, resumed: Run | None) -> FinetuneConfig:
    """The configuration with what its batch and ``auto`` become for so many training images, and say so."""
    asked = config.training
    training = asked.resolved(
        images,
        processes=distributed.world_size(),
        pretrained=not pretrained.from_scratch,
        unlabelled=bool(config.data.unlabelled),
        begun=None if resumed is None else resumed.environment,
    )
    tell_batch(asked, training.batch_size)
    if asked.epochs == "auto":
        steps = training.total_epochs * steps_of_epoch(images, training.batch_size)
        log.info(f"{training.total_epochs} epochs, {steps:,} steps (--epochs auto)")
    return config.model_copy(update={"training": training})


def starting_weights(
    config: FinetuneConfig, target: type[Target[Any, Any]], resumed: Run | None
) -> tuple[Pretrained, str]:
    """The weights that the encoder starts from, or those that a resumed run has in its state, and its name."""
    if (begun := begun_with(resumed)) is not None:
        return begun, encoder_of(begun, config.model.backbone) or DEFAULT_BACKBONE
    root = Path(config.console.runs)
    if config.data.dataset is None:
        check_before_fetching(config.model.pretrained, config.model.task, root=root)
    pretrained = find_pretrained(
        config.model.pretrained,
        root=root,
        encoder=meant_encoder(config, target),
        allow_unfinished=config.model.allow_unfinished,
        make=command_that_makes,
    )
    encoder = encoder_of(pretrained, config.model.backbone) or DEFAULT_BACKBONE
    target.check_encoder(config.target, encoder, image_size=config.data.image_size)
    return pretrained, encoder


def meant_encoder(config: FinetuneConfig, target: type[Target[Any, Any]]) -> str | None:
    """The encoder that is asked for, checked before anything is fetched; None where the weights say which it is.

    Of several that are published under a name it is the first that the target can stand on.
    """
    name, asked = config.model.pretrained, config.model.backbone
    if asked is not None:
        candidates: Sequence[str] = (asked,)
    elif name in FOUNDATIONS:
        candidates = encoders_of(name)
    elif name in RESERVED:
        candidates = (DEFAULT_BACKBONE,)
    else:
        return None
    refused = []
    for encoder in candidates:
        try:
            target.check_encoder(config.target, encoder, image_size=config.data.image_size)
        except UsageError as error:
            refused.append(error)
        else:
            return encoder
    raise refused[0]


def starting_encoder(
    config: FinetuneConfig, target: Target[Any, Any], encoder: str, pretrained: Pretrained
) -> tuple[nn.Module, str, dict[str, Any]]:
    """The encoder with the weights that it starts from, its stem, and what ``LOAD_REPORT`` will hold."""
    bands = target.dataset.bands
    backbone = build_backbone(encoder, in_channels=len(bands))
    stem = target.set_stem(backbone, encoder, pretrained, image_size=config.data.image_size)
    if pretrained.file is None:
        return backbone, stem, {}
    report = load_backbone(backbone, pretrained.file, bands=bands, adapt=config.model.adapt)
    tell_loaded(pretrained.label, report)
    said = pretrained.metadata and pretrained.metadata.model_dump(mode="json")
    return backbone, stem, {**asdict(report), "weights": pretrained.label, "metadata": said}


def describe_model(
    config: FinetuneConfig,
    target: Target[Any, Any],
    source: ModelMetadata | None,
    unlabelled: tuple[Dataset, list[int]] | None,
    **facts: Any,
) -> ModelMetadata:
    """Metadata of the model, before it is trained.

    Args:
        source: of the weights that it starts from.
        unlabelled: a dataset and the images of it that are trained on without labels.
        facts: of the network.
    """
    dataset, split = target.dataset, target.split
    learned_from = [*split.train, *split.validation]
    learned = image_hashes(dataset, learned_from)
    learned += image_hashes(*unlabelled) if unlabelled else []
    return ModelMetadata(
        method=source.method if source else None,
        in_channels=len(dataset.bands),
        bands=dataset.bands,
        full_scale=dataset.full_scale,
        reach=dataset.reach,
        image_size=config.data.image_size,
        resize=config.data.resize,
        dataset=config.data.name,
        include_test=of_a_test_list(dataset, learned_from) or (source is not None and source.include_test),
        terms=source.terms if source else (),
        seen=joined(source.seen if source else "", record(learned)),
        data=stored_values(config)["data"],
        split_seed=config.data.split_seed,
        test_hash=target.hash_of(split.test),
        epochs=config.training.total_epochs,
        version=simclrseg.__version__,
        commit=source_commit(),
        **facts,
    )


def make_loaders(
    config: FinetuneConfig,
    target: Target[Any, Any],
    pairs: Dataset,
    metadata: ModelMetadata,
    unlabelled: tuple[Dataset, list[int]] | None,
    *,
    threads: int,
) -> tuple[Loader, Loader]:
    """The batches to train with, and those that epochs are compared on."""
    batch_size, split = config.training.batch_size, target.split
    seed = config.run.seed
    shared: dict[str, Any] = {
        "batch_size": batch_size,
        "threads": threads,
        "rank": distributed.rank(),
        "world_size": distributed.world_size(),
    }
    samples = target.make_samples(pairs, split.train, metadata, augmentation=config.data.augmentation, seed=seed)
    to_train: dict[str, Any] = {
        "samples": samples,
        "seed": seed,
        "shuffle": True,
        "drop_last": steps_of_epoch(len(samples), batch_size) * batch_size < len(samples),
    }
    if unlabelled is None:
        batches = Loader(**to_train, **shared)
    else:
        dataset, indices = unlabelled
        cropped = config.data.resize == "tile"
        kept = cached(dataset, indices, where=config.data.cache, write=not config.run.dry_run, cropped=cropped)
        others = target.make_unlabelled(kept, indices, metadata, seed=seed + 1)
        batches = WithUnlabelled(**to_train, **shared, unlabelled=others, neighbours=2)
    validation = Loader(
        target.make_validation(pairs, split.validation, metadata),
        shuffle=False,
        drop_last=False,
        **shared,
    )
    return batches, validation
