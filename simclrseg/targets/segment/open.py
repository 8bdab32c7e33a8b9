"""Photos with masks, of those classes that are asked for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from simclrseg.data.datasets.base import Dataset, DatasetOptions
from simclrseg.data.datasets.derived import choose_classes
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.errors import DataError, UsageError
from simclrseg.labels.classes import MAX_CLASSES, read_classes
from simclrseg.targets.knobs import LabelledData


def open_masks(config: LabelledData) -> Dataset:
    """Open photos with masks, of those classes that are asked for.

    Raises:
        DataError: if there are no masks.
        UsageError: if ``--classes`` or ``--border`` does not fit them.
    """
    count = class_count(config.classes)
    options = DatasetOptions(
        border=config.border,
        classes=read_classes(config.classes_file) if config.classes_file else None,
        class_count=count,
        image_column=config.image_column,
        label_column=config.label_column,
        mask_column=config.mask_column,
    )
    dataset = open_dataset(config.name, options)
    if not dataset.has_masks:
        command = f"simclrseg finetune --task classify --dataset {shlex.quote(config.name)}"
        remedy = f"; `{command}` learns a class for each photo" if dataset.label_names else ""
        raise DataError(
            f"{config.dataset} holds no masks: segmentation needs a folder with images/ and masks/, a set of the Hub "
            f"with a column of masks, oxford_pets or voc{remedy}"
        )
    if config.border != "pet" and dataset.border is None:
        raise UsageError(
            f"--border {config.border} is for oxford_pets, whose masks mark a border",
            f"leave it out for {dataset.name}",
            option="border",
            value=config.border,
        )
    if count is None:
        return choose_classes(dataset, config.classes) if config.classes else dataset
    if count != len(dataset.classes):
        raise UsageError(
            f"--classes {count}: {dataset.name} has {len(dataset.classes)} classes ({', '.join(dataset.classes)})",
            "leave it out, or name the classes to learn",
            option="classes",
            value=count,
        )
    return dataset


def class_count(classes: Sequence[str]) -> int | None:
    """The number that ``--classes`` gives; None where it gives names.

    Raises:
        UsageError: for a number of classes that masks cannot hold.
    """
    if len(classes) != 1 or not classes[0].isdecimal():
        return None
    count = int(classes[0])
    if not 2 <= count <= MAX_CLASSES:
        raise UsageError(
            f"--classes {count}: 2 to {MAX_CLASSES} classes are possible, background among them",
            option="classes",
            value=count,
        )
    return count
