"""What `simclrseg pretrain` trains, made and checked before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simclrseg.config.pretrain import PretrainConfig, PretrainData, command_that_makes
from simclrseg.data.augment import STRENGTHS, Strengths, adjusted
from simclrseg.data.cache import cached
from simclrseg.data.datasets.dataset import Dataset, DatasetOptions, is_photos
from simclrseg.data.datasets.derived import join
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.loader import Loader
from simclrseg.data.normalization import Normalization
from simclrseg.data.seen import first_of_each, joined, of_a_test_list
from simclrseg.data.splits import hashed_order
from simclrseg.engine.task import Loader as Validation
from simclrseg.engine.task import Task, check_task
from simclrseg.errors import UsageError
from simclrseg.hub.table import same_encoder
from simclrseg.images.bands import parsed_bands
from simclrseg.methods.base import Method, Views, method_of
from simclrseg.models.backbones import OURS, build_backbone, check_backbone, is_vit
from simclrseg.models.normalize import Normalize
from simclrseg.models.stems import choose_stem, set_cifar_stem
from simclrseg.models.weights import load_backbone
from simclrseg.system import distributed
from simclrseg.training.batches import tell_batch
from simclrseg.training.folder import hash_of_names
from simclrseg.training.normalization import choose_normalization
from simclrseg.training.session import Session
from simclrseg.weights.find import Pretrained, find_pretrained, tell_loaded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The parts of a training, made and checked; nothing is written yet.

    Attributes:
        config: with the batch that there are images for.
        views: how its images are seen.
        learned, held_out: images of the dataset to train on, and to be scored on.
        batches, validation: of these; no validation where nothing is to be scored.
        facts: of the backbone, for its file.
        seen: the record of what its first weights have seen.
    """

    config: PretrainConfig
    method: Method[Any]
    views: Views
    learned: Sequence[int]
    held_out: Sequence[int]
    backbone: nn.Module
    task: Task
    batches: Loader
    validation: Validation | None
    facts: dict[str, Any]
    seen: str


def prepare(session: Session[PretrainConfig]) -> Prepared:
    """Check everything that training needs, make it, and say what it is."""
    config, machine, resumed = session.config, session.machine, session.resumed
    begun = resumed.environment if resumed is not None and "stem" in resumed.environment else {}
    method = method_of(config.method)
    check_decoder(method, config.model.method, config.model.backbone)
    init = starting_weights(config) if not begun else Pretrained("", None)
    own = method.open(root=Path(config.console.runs), image_size=config.data.image_size, begun=begun)
    scored = config.run.knn_every > 0

    def places_held_out(count: int) -> set[int]:
        return set(method.held_out(count).tolist() if scored else [])

    def are_those_of_the_run(keys: Sequence[str]) -> bool:
        if resumed is None:
            return False
        places = places_held_out(len(keys))
        learned = [key for place, key in enumerate(keys) if place not in places]
        return resumed.environment.get("photos_hash") == hash_of_names(learned)

    with distributed.main_first():  # it may have to be downloaded
        dataset, indices = images_to_train_on(config.data, seed=config.run.seed, are_settled=are_those_of_the_run)
    places = places_held_out(len(indices))
    learned, held_out = ([indices[i] for i in range(len(indices)) if (i in places) == out] for out in (False, True))
    own |= method.fit_to(len(learned), begun=begun)
    batch_size = begun.get("batch_size") or config.training.batch_of(len(learned), distributed.world_size())
    tell_batch(config.training, batch_size)
    training = config.training.model_copy(update={"batch_size": batch_size})
    config = config.model_copy(update={"training": training})
    dataset = cached(dataset, indices, where=config.data.cache, write=not config.run.dry_run)
    views = Views(
        dataset,
        config.data.image_size,
        strengths_of(config.data),
        seed=config.run.seed,
        strict=config.data.strict,
        threads=machine.workers,
    )
    if not begun:
        normalization = choose_normalization(
            config.data.normalization, dataset, learned, source=init.metadata, threads=machine.workers
        )
    else:
        normalization = Normalization(tuple(begun["mean"]), tuple(begun["std"]))
    torch.manual_seed(config.run.seed)
    backbone, stem = starting_backbone(config, init, dataset.bands, stem=begun.get("stem"))
    normalize = Normalize(normalization.mean, normalization.std, dataset.full_scale)
    task = method.make_task(backbone, config.model.backbone, normalize)
    batches = Loader(
        method.make_samples(views, learned),
        batch_size=batch_size,
        seed=config.run.seed,
        shuffle=True,
        drop_last=True,
        threads=machine.workers,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        neighbours=task.neighbours,
    )
    validation = None
    if scored:
        validation = method.make_validation(views, learned, held_out)
    check_task(task, scored=validation is not None)
    line = (
        f"{len(learned):,} photos, {len(batches)} steps an epoch, batch {batch_size}, "
        f"{config.training.optimizer} at {config.training.scaled_rate:.4g}"
    )
    log.info(", ".join(filter(None, [line, method.outlook(batch_size)])))
    if config.model.init == "none" and resumed is None and is_photos(dataset) and config.model.backbone not in OURS:
        log.info("random weights suit pictures unlike photos; of everyday things more is learned from --init imagenet")
    saw_tests = of_a_test_list(dataset, learned) or method.include_test
    saw_tests |= init.metadata is not None and init.metadata.include_test
    facts = {
        "method": config.model.method,
        "encoder": config.model.backbone,
        "encoder_prefix": method.ENCODER,
        "decoder": method.DECODER,
        "image_size": config.data.image_size,
        "stem": stem,
        "init": begun["init"] if begun else init.label if init.file else None,
        "terms": begun.get("terms", []) if begun else [*(init.metadata.terms if init.metadata else ()), *method.terms],
        "bands": dataset.bands,
        "full_scale": dataset.full_scale,
        "reach": dataset.reach,
        **asdict(normalization),
        "dataset": "+".join(config.data.dataset),
        "include_test": begun.get("include_test", saw_tests),
    }
    if held_out:
        log.info(f"{len(held_out):,} photos are held out, to be scored on (--held-out)")
    return Prepared(
        config=config,
        method=method,
        views=views,
        learned=learned,
        held_out=held_out,
        backbone=backbone,
        task=task,
        batches=batches,
        validation=validation,
        facts=facts | own,
        seen=joined(init.metadata.seen if init.metadata else "", method.seen),
    )


def check_decoder(method: Method[Any], name: str, encoder: str) -> None:
    """Refuse an encoder that has no maps for the decoder that a method trains."""
    if method.DECODER is not None and is_vit(encoder):
        raise UsageError(
            f"--method {name} trains a decoder too, which needs feature maps of several sizes, and those of {encoder}, "
            "a vision transformer, are all of one",
            "pass a convolutional --backbone, as resnet18, or another --method",
            option="backbone",
            value=encoder,
        )


def strengths_of(data: PretrainData) -> Strengths:
    """Strengths of the chosen augmentation, with what is given beside it."""
    return adjusted(STRENGTHS[data.augmentation], **data.strengths)


def starting_weights(config: PretrainConfig) -> Pretrained:
    """The weights that the encoder starts from; UsageError if they are another's, or it takes no such pictures."""
    name = config.model.backbone
    check_backbone(name, image_size=config.data.image_size)  # before anything is fetched
    init = find_pretrained(
        config.model.init,
        root=Path(config.console.runs),
        encoder=name,
        option="--init",
        make=command_that_makes,
    )
    source = init.metadata
    if source is not None and not same_encoder(name, source.encoder):
        raise UsageError(
            f"--init {init.label} is a {source.encoder}",
            f"pass --backbone {source.encoder}",
            option="init",
            value=init.label,
        )
    return init


def starting_backbone(
    config: PretrainConfig, init: Pretrained, bands: Sequence[str], *, stem: str | None = None
) -> tuple[nn.Module, str]:
    """The encoder with the weights that it starts from, and its stem; a run that goes on has the ``stem`` it had."""
    name = config.model.backbone
    source = init.metadata
    backbone = build_backbone(name, in_channels=len(bands))
    asked: str = stem or config.model.stem
    if asked == "auto" and init.file is not None:
        asked = source.stem if source else "imagenet"  # go on with what the weights were trained in
    stem = choose_stem(asked, backbone, name, image_size=config.data.image_size)
    if stem == "cifar":
        set_cifar_stem(backbone)
    elif source is not None and source.stem == "cifar":
        log.warning(f"{init.label} was pretrained with the CIFAR stem: stride 2 and max-pool come back here")
    if init.file is not None:
        tell_loaded(init.label, load_backbone(backbone, init.file, bands=bands, adapt=config.model.adapt))
    return backbone, stem


def images_to_train_on(
    config: PretrainData, *, seed: int, are_settled: Callable[[Sequence[str]], bool] = lambda keys: False
) -> tuple[Dataset, list[int]]:
    """Open and join the datasets.

    Args:
        are_settled: whether images with these keys, copies among them, are those that a run began with.

    Returns:
        The joined dataset and the images to use: all but those of published test lists, or so many of them as are
        asked for. An image that lies in several sets is used once, and in none where one of them tests with it.
    """
    options = DatasetOptions(
        masks=False,
        image_column=config.image_column,
        label_column=config.label_column,
        bands=parsed_bands(config.bands) if config.bands else (),
    )
    datasets = [open_dataset(name, options) for name in config.dataset]
    for dataset in datasets:
        for line in dataset.summary:
            log.info(line)
    joined = join(datasets)
    held_out = set() if config.include_test else set(joined.official.get("test", ()))
    if held_out:
        log.info(f"{len(held_out):,} photos of published test lists are left out (--include-test takes them)")
    indices = [index for index in range(len(joined)) if index not in held_out]
    chosen = _some(joined, indices, config.max_images, seed)
    if len(datasets) > 1 and not are_settled([joined.keys[index] for index in chosen]):
        # a copy would be a photo's negative, and its neighbour
        (indices,), copies = distributed.from_main(
            lambda: first_of_each([(joined, indices)], (joined, sorted(held_out)))
        )
        if copies:
            log.info(f"{copies:,} photos that are there twice, or that a published test list has too, are left out")
        chosen = _some(joined, indices, config.max_images, seed)
    if len(chosen) < len(indices):
        log.info(f"{len(chosen):,} of {len(indices):,} photos are trained on, chosen by seed {seed}")
    return joined, chosen


def _some(dataset: Dataset, indices: list[int], count: int | None, seed: int) -> list[int]:
    """So many of the images, of which fewer are among more; all where it is None or there are fewer."""
    if count is None or count >= len(indices):
        return indices
    order = hashed_order([dataset.keys[index] for index in indices], seed)
    return sorted(indices[place] for place in order[:count])
