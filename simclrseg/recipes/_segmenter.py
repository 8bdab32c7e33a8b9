"""What finetune, evaluate and export share: a segmentation run's dataset, model and scores."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from simclrseg import runs
from simclrseg.config import FinetuneConfig, LabelledData
from simclrseg.data.datasets.base import Dataset, DatasetOptions
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.splits import Split, make_split, test_hash
from simclrseg.errors import DataError, ImageError
from simclrseg.evaluation.segmentation import RESOLUTIONS, Predict, Scores, score
from simclrseg.images import resize_image, resize_mask
from simclrseg.inference.masks import to_mask
from simclrseg.knobs import parse_config_file
from simclrseg.metadata import ModelMetadata
from simclrseg.metrics import segmentation_metrics
from simclrseg.recipes._training import Machine
from simclrseg.tasks.segmentation import Segmentation

log = logging.getLogger(__name__)


def open_labelled(config: LabelledData) -> tuple[Dataset, Split]:
    """Open photos with masks and split them.

    Raises:
        DataError: if there are no masks, or too few for a split.
    """
    options = DatasetOptions(
        border=config.border,
        classes_file=Path(config.classes_file) if config.classes_file else None,
        image_column=config.image_column,
        label_column=config.label_column,
        mask_column=config.mask_column,
    )
    dataset = open_dataset(config.dataset, options)
    if not dataset.has_masks:
        raise DataError(
            f"{config.dataset} holds no masks: segmentation needs a folder with images/ and masks/, or oxford_pets"
        )
    usable = [index for index in range(len(dataset)) if dataset.has_mask(index)]
    split = make_split(
        dataset.keys,
        official=dataset.official,
        usable=usable,
        test_split=config.test_split,
        seed=config.split_seed,
        data_ratio=config.data_ratio,
    )
    for part in ("train", "validation", "test"):
        if not getattr(split, part):
            raise DataError(
                f"{config.dataset}: {len(usable)} photos with masks leave none for the {part} part; "
                "add photos, or raise --data-ratio"
            )
    return dataset, split


def tell(dataset: Dataset, split: Split) -> None:
    """Say what was understood of the photos, which are left out, and how they are split."""
    for line in dataset.summary:
        log.info(line)
    bare = sum(not dataset.has_mask(index) for index in range(len(dataset)))
    if bare:
        log.info(f"{dataset.name}: {bare:,} photos without a mask are skipped")
    log.info(split.line)


def dataset_of(run: runs.Run) -> tuple[FinetuneConfig, Dataset, Split]:
    """A run's configuration, and its dataset and split as they were, checked by the hash of the test photos.

    Raises:
        DataError: if the test photos or masks have changed since.
    """
    config = parse_config_file(FinetuneConfig, str(run.folder))
    dataset, split = open_labelled(config.data)
    stored = run.environment.get("test_hash")
    if stored and test_hash(dataset, split.test) != stored:
        raise DataError(
            f"the test photos of {config.data.dataset} are not those that run {run.name!r} was trained with: "
            "they changed on the disk; restore them, or fine-tune again"
        )
    return config, dataset, split


def predictor(task: Segmentation, machine: Machine) -> Predict:
    """The network as a function of uint8 photos, for scoring: in float32, as the exported model computes."""
    task.model.to(machine.device).eval()

    @torch.inference_mode()
    def predict(images: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(images).to(machine.device)
        return task.probabilities(batch).cpu().numpy()

    return predict


def example_rows(
    predict: Predict, dataset: Dataset, indices: Sequence[int], metadata: ModelMetadata
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Photo, true and predicted mask of those photos that can be read, all squashed to the training size."""
    side = (metadata.image_size, metadata.image_size)
    pairs = []
    for index in indices:
        try:
            pairs.append((resize_image(dataset.image(index), side), resize_mask(dataset.mask(index), side)))
        except ImageError:  # scoring has named it
            continue
    if not pairs:
        return []
    probabilities = predict(np.stack([photo for photo, _ in pairs]))
    masks = [to_mask(probability, metadata.threshold) for probability in probabilities]
    return [(photo, truth, mask) for (photo, truth), mask in zip(pairs, masks, strict=True)]


def readable_photos(dataset: Dataset, indices: Sequence[int]) -> list[np.ndarray]:
    """Those of some photos that can be read, (H, W, bands) each."""
    photos = []
    for index in indices:
        try:
            photos.append(dataset.image(index))
        except ImageError:  # scoring has named it
            continue
    return photos


def score_photos(
    task: Segmentation,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    metadata: ModelMetadata,
    machine: Machine,
    batch_size: int,
) -> Scores:
    scores = score(
        predictor(task, machine),
        dataset,
        indices,
        image_size=metadata.image_size,
        classes=len(metadata.classes),
        threshold=metadata.threshold,
        batch_size=batch_size,
        workers=machine.workers,
    )
    if scores.skipped:
        log.warning(f"{len(scores.skipped)} photos could not be scored; the first: {scores.skipped[0]}")
    if not scores.keys:
        raise DataError(f"{dataset.name}: none of the {len(indices)} photos could be read")
    return scores


def results(scores: Scores, *, split: str, metadata: ModelMetadata) -> dict[str, dict[str, Any]]:
    """What ``test.json`` holds: per resolution, the metrics over all pixels of the split."""
    return {
        resolution: {
            "split": split,
            "n": len(scores.keys),
            "resolution": resolution,
            "border": metadata.border,
            "threshold": metadata.threshold,
            "metrics": segmentation_metrics(scores.counts[resolution].sum(axis=0)),
        }
        for resolution in RESOLUTIONS
    }


def segmenter_task(model: nn.Module, metadata: ModelMetadata, loss: Any = None) -> Segmentation:
    return Segmentation(
        model,
        loss,
        classes=metadata.classes,
        mean=metadata.mean,
        std=metadata.std,
        full_scale=metadata.full_scale,
        threshold=metadata.threshold,
    )
