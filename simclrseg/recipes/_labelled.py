"""What all tasks do with labelled photos: split them, say so, read some of them."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from simclrseg.config.finetune import FinetuneConfig, LabelledData
from simclrseg.data.augment import PAIR_STRENGTHS
from simclrseg.data.datasets import DATASETS, HUB
from simclrseg.data.datasets.base import Dataset
from simclrseg.data.samples import MaskPairs, Photos
from simclrseg.data.splits import Split, make_split
from simclrseg.engine.task import ValidatedTask
from simclrseg.errors import DataError, ImageError
from simclrseg.files import replacing
from simclrseg.inference.masks import Predict
from simclrseg.knobs import parse_config
from simclrseg.metadata import ModelMetadata
from simclrseg.recipes._training import Machine
from simclrseg.resizing import resize_image, resize_mask

log = logging.getLogger(__name__)


class Network(ValidatedTask, Protocol):
    """A task that can be asked."""

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, S, S, bands) as stored -> float32 probabilities, in the shape of the task."""
        ...


def predictor(task: Network, machine: Machine, *, batch_size: int) -> Predict:
    """The network as a function of photos as stored, for scoring: in float32, as the exported model computes.

    Args:
        batch_size: photos per forward pass, however many are asked about.
    """

    @torch.inference_mode()
    def predict(images: np.ndarray) -> np.ndarray:
        task.model.to(machine.device).eval()  # each time: training leaves the model in its own mode
        return task.probabilities(torch.from_numpy(images).to(machine.device)).cpu().numpy()

    return in_parts(predict, batch_size)


def in_parts(predict: Predict, batch_size: int) -> Predict:
    """The same, of so many photos at once however many are asked about."""

    def in_turn(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), batch_size)
        return np.concatenate([predict(images[start : start + batch_size]) for start in starts])

    return in_turn


def elsewhere(own: Mapping[str, Any], dataset: str) -> LabelledData:
    """How another dataset is opened: by the rules of a model's own, as far as it has a use for them.

    It is split as if nothing were said of that, so that models which were trained on different splits are scored on the
    same photos of it. Only a model's own dataset keeps its own split: the usual test photos may have trained it.

    Args:
        own: what the model's own photos were opened with, by the names of ``LabelledData``.

    Raises:
        UsageError: if it holds an impossible value.
    """
    kept = ["classes"]
    kept += ["test_split", "split_seed"] if dataset == own.get("dataset") else []
    kept += ["border"] if dataset == "oxford_pets" else []
    kept += ["classes_file"] if dataset not in DATASETS else []
    kept += ["image_column", "label_column", "mask_column"] if dataset.startswith(HUB) else []
    values = {name: own[name] for name in kept if name in own}
    return parse_config(LabelledData, {**values, "dataset": dataset}, source="the model's data", of_a_run=True)


def make_samples(
    kind: type[MaskPairs] | type[Photos],
    config: FinetuneConfig,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    augmentation: str,
) -> MaskPairs | Photos:
    """What the network learns from, or what its epochs are compared on.

    Args:
        kind: what the task takes.
        augmentation: of ``PAIR_STRENGTHS``, drawn anew each epoch; none for a comparison.
    """
    return kind(
        dataset,
        indices,
        image_size=config.data.image_size,
        strengths=PAIR_STRENGTHS[augmentation],
        seed=config.run.seed,
        strict=config.data.strict,
    )


def split_dataset(
    config: LabelledData,
    dataset: Dataset,
    usable: Sequence[int],
    *,
    what: str,
    strata: Sequence[int] | None = None,
    for_training: bool = True,
) -> Split:
    """Split the photos that can be learned from.

    Args:
        usable: those with a mask, or with a label.
        what: they are called in messages, as "photos with masks".
        strata: class of each photo, where parts should hold classes in proportion.
        for_training: False where photos are only scored: any part may be empty then.

    Raises:
        DataError: if they are too few for training, validation and test.
    """
    split = make_split(
        dataset.keys,
        official=dataset.official,
        usable=usable,
        test_split=config.test_split,
        seed=config.split_seed,
        data_ratio=config.data_ratio,
        strata=strata,
        fold=config.fold_numbers,
        group_by=config.group_by,
        for_training=for_training,
    )
    if for_training and not split.test:
        raise DataError(f"{config.dataset}: {len(usable)} {what} leave none for the test part: add photos")
    return split


def tell(dataset: Dataset, split: Split, *, bare: int, without: str) -> None:
    """Say what was understood of the photos, which are left out, and how they are split.

    Args:
        bare: number of photos that nothing can be learned from.
        without: what they lack, as "a mask".
    """
    for line in dataset.summary:
        log.info(line)
    if bare:
        log.info(f"{dataset.name}: {bare:,} photos without {without} are skipped")
    log.info(split.line)


def check_bands(dataset: Dataset, metadata: ModelMetadata, *, remedy: str) -> None:
    """Refuse pictures that a network cannot look at.

    Raises:
        DataError: if they have other bands, or another full scale.
    """
    if (dataset.bands, dataset.full_scale) != (metadata.bands, metadata.full_scale):
        raise DataError(
            f"{dataset.name} has the bands {', '.join(dataset.bands)} up to {dataset.full_scale:,}, but the model was "
            f"trained on {', '.join(metadata.bands)} up to {metadata.full_scale:,}: {remedy}"
        )


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same columns as CSV."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_confusion(folder: Path, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """A confusion matrix as ``confusion.csv``: a row a true class."""
    rows = [
        {"true": name, **dict(zip(classes, row, strict=True))}
        for name, row in zip(classes, matrix.tolist(), strict=True)
    ]
    write_rows(folder / "confusion.csv", rows)


def readable_photos(
    dataset: Dataset, indices: Sequence[int], size: tuple[int, int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Those of some photos that can be read, squashed to (height, width), and their masks where all of them have one.

    Returns:
        (H, W, bands) each, and (H, W) each or an empty list.
    """
    photos, masks = [], []
    masked = all(dataset.has_mask(index) for index in indices)
    for index in indices:
        try:
            photo = resize_image(dataset.image(index), size)  # at once, for the originals may not fit in memory
            masks += [resize_mask(dataset.mask(index), size)] if masked else []
            photos.append(photo)
        except ImageError:  # scoring has named it
            continue
    return photos, masks
