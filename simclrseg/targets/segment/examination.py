"""Images with masks: opened, and examined before the first step."""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from simclrseg.data.datasets.dataset import Dataset
from simclrseg.data.datasets.derived import choose_classes, in_classes_of
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.datasets.pairing import LOOK_LIKE_MASKS
from simclrseg.data.mask_statistics import balancing_weights, count_pixels, object_sizes, scaled_weights
from simclrseg.data.samples import spread
from simclrseg.data.splits import Split
from simclrseg.errors import DataError, UsageError
from simclrseg.labels import NAMING
from simclrseg.labels.classes import MAX_CLASSES, numbered_classes, read_classes
from simclrseg.labels.reading import of_files
from simclrseg.labels.unread import find_unread
from simclrseg.metadata import ModelMetadata
from simclrseg.system import distributed
from simclrseg.targets.base import opening
from simclrseg.targets.knobs import LabelledData, mask_words

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"[0-9]{1,9}")
FEW_PIXELS = 5
"""Size of an object, in pixels, of which a network that halves the picture five times makes out little."""
MEASURED = 32  # masks whose objects are measured
MANY = 6  # classes beyond which only the extremes are told


def open_masks(data: LabelledData, model: ModelMetadata | None = None, *, settled: bool = False) -> Dataset:
    """Open images with masks, of those classes that are asked for.

    Args:
        model: that they are for, whose range of values and class ids they get; ``data`` is what it was trained with.
        settled: True for images that were trained on already.

    Raises:
        DataError: if there are no masks.
        UsageError: if ``--classes`` or ``--border`` does not fit them.
    """
    count = int(data.classes[0]) if len(data.classes) == 1 and _NUMBER.fullmatch(data.classes[0]) else None
    if count is not None and not 2 <= count <= MAX_CLASSES:
        raise UsageError(
            f"--classes {count}: 2 to {MAX_CLASSES} classes are possible, background among them",
            option="classes",
            value=count,
        )
    if model is not None and len(model.classes) > 2 and model.classes == numbered_classes(len(model.classes)).names:
        count = len(model.classes)  # of which some may be in none of these masks
    words = mask_words(data.masks) if data.masks else ()
    options = replace(
        opening(data, model),
        border=data.border,
        classes=read_classes(data.classes_file) if data.classes_file else None,
        class_count=count,
        mask_rules={word.name: word.number for word in words if word.name not in NAMING},
        mask_folder=next((word.text for word in words if word.name in NAMING), ""),
        mask_column=data.mask_column,
        of_model=model is not None,
        settled=settled,
    )
    try:
        dataset = open_dataset(data.name, options)
    except DataError as error:
        if model is None or (told := of_files(error)) is error:
            raise
        raise told from error
    if not dataset.has_masks:
        raise _without_masks(data, dataset)
    if data.border != "pet" and dataset.border is None:
        raise UsageError(
            f"--border {data.border} is for oxford_pets, whose masks mark a border",
            f"leave it out for {dataset.name}",
            option="border",
            value=data.border,
        )
    if model is not None:
        known = [name for name in data.classes if name in dataset.classes]
        return in_classes_of(choose_classes(dataset, known) if known else dataset, model.classes, model.colours)
    if count is None:
        return choose_classes(dataset, data.classes) if data.classes else dataset
    if count != len(dataset.classes):
        raise UsageError(
            f"--classes {count}: {dataset.name} has {len(dataset.classes)} classes ({', '.join(dataset.classes)})",
            "leave it out, or name the classes to learn",
            option="classes",
            value=count,
        )
    return dataset


def _without_masks(data: LabelledData, dataset: Dataset) -> DataError:
    """The error for a set without masks, with what there is that may be meant for them."""
    folder = Path(data.name).expanduser()
    if folder.is_dir() and (found := find_unread(folder)):
        file, form = found
        reason = f"{data.dataset} holds no masks that are read: {file} is {form.name}"
        return DataError(reason, form.remedy, path=folder)
    if astray := next((line for line in dataset.summary if line.startswith(LOOK_LIKE_MASKS)), ""):
        reason = f"{data.dataset} holds no masks of its photos by their names, but {astray.removeprefix('left out: ')}"
        return DataError(reason, "give masks the names of their photos, in masks/ beside images/", path=folder)
    command = f"simclrseg finetune --task classify --dataset {shlex.quote(data.name)}"
    remedy = f"; `{command}` learns a class for each photo" if dataset.label_names else ""
    return DataError(
        f"{data.dataset} holds no masks: segmentation needs a folder with images/ and masks/, or with labels of "
        f"COCO, YOLO or LabelMe, a set of the Hub with a column of masks, oxford_pets or voc{remedy}"
    )


def examine_masks(dataset: Dataset, pairs: Dataset, split: Split, *, threads: int) -> tuple[np.ndarray, str]:
    """Read every mask that the run will need once, and say what the training masks hold.

    Args:
        pairs: the dataset as training and validation read it, from a cache where there is one.

    Returns:
        (N, C) pixels of the training images by class, and a hash of all masks, whatever their files are like.

    Raises:
        DataError: for the first mask that does not fit; or if the training masks hold one class only.
    """
    parts = ((pairs, split.train), (pairs, split.validation), (dataset, split.test))
    looked = distributed.from_main(lambda: [count_pixels(*part, threads=threads) for part in parts])
    counts = looked[0][0]
    truth = hashlib.sha256(np.concatenate([sums for _, sums in looked]).tobytes()).hexdigest()[:16]
    pixels = counts.sum(0)
    absent = [name for name, count in zip(dataset.classes, pixels, strict=True) if not count]
    if len(absent) >= len(dataset.classes) - 1:
        held = ", ".join(set(dataset.classes) - set(absent)) or "no class at all"
        raise DataError(f"the {len(counts):,} training masks hold {held} only: there is nothing to learn")
    shares = sorted(zip((100 * pixels / pixels.sum()).tolist(), dataset.classes, strict=True), reverse=True)
    told = shares if len(shares) <= MANY else [shares[0], *[share for share in shares if share[0] > 0][-1:]]
    shown = [f"{name} {share:.{2 if share < 99.5 else 4}g} %" for share, name in told]
    words = (", " if told is shares else " to ").join(shown)
    log.info(f"pixels of the {len(counts):,} training masks: {words}")
    if absent:
        log.warning(
            f"no pixel of the training masks is {', '.join(absent)}: the network cannot learn it; "
            "add photos, or raise --data-ratio"
        )
    for part, (held_out, _) in (("validation", looked[1]), ("test", looked[2])):
        found = [name for name, count in zip(dataset.classes, held_out.sum(0), strict=True) if count]
        if len(held_out) and len(found) < 2:
            log.warning(
                f"the {len(held_out):,} {part} masks hold {(found or ['nothing that counts'])[0]} only, so their "
                "scores say little: pass another --split-seed, or add photos"
            )
    return counts, truth


def class_weights(asked: str | None, counts: np.ndarray, classes: Sequence[str]) -> tuple[float, ...] | None:
    """The weight of each class in the loss, whose mean over the training pixels is 1; None for equal ones.

    Args:
        asked: ``auto``, or numbers with commas between them.
        counts: (N, C) pixels by image and class.

    Raises:
        UsageError: if there is not a number for each class, or only classes that do not occur have one above 0.
    """
    if asked is None:
        return None
    weights = balancing_weights(counts) if asked == "auto" else tuple(float(word) for word in asked.split(","))
    problem = None
    if len(weights) != len(classes):
        problem = f"{len(weights)} weights for {len(classes)} classes"
    elif not np.dot(weights, counts.sum(0)):
        problem = "every class that occurs has weight 0"
    if problem:
        raise UsageError(f"--class-weights {asked}: {problem}", option="class_weights", value=asked)
    weights = scaled_weights(weights, counts)
    log.info("class weights: " + ", ".join(f"{name} {w:.3g}" for name, w in zip(classes, weights, strict=True)))
    return weights


def warn_of_small_objects(dataset: Dataset, indices: Sequence[int], side: int, *, threads: int) -> None:
    """Say, once, where squares of that side leave a few pixels of what half of the foreground belongs to."""
    if not distributed.is_main():
        return
    found = object_sizes(dataset, spread(indices, MEASURED), side, threads=threads)
    if found is not None and found.squashed < FEW_PIXELS:
        log.warning(
            f"half of the foreground is in objects of about {found.own:.0f} px or less, which shrink to "
            f"{found.squashed:.1f} px in squares of {side} px: --resize tile keeps their size"
        )
