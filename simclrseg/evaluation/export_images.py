"""The images that an export is checked on, and that int8 is calibrated on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.derived import in_classes_of
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.samples import spread
from simclrseg.errors import DataError, SimclrsegError
from simclrseg.evaluation.opened import images_of
from simclrseg.images.framing import Framing
from simclrseg.labels.reading import of_files
from simclrseg.metadata import ModelMetadata
from simclrseg.runs.run import Run
from simclrseg.scores.reading import readable_images

log = logging.getLogger(__name__)

PHOTOS = 64
"""How many to check on, and as many others to calibrate on; ranges of activations move little with more."""


@dataclass(frozen=True)
class CheckImages:
    """Pictures of one size, (H, W, bands) each.

    Attributes:
        check: pictures to compare the file and the network on; empty where there are none at hand.
        masks: their masks (H, W), or empty.
        calibration: other pictures; empty unless they were asked for.
    """

    check: list[np.ndarray] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    calibration: list[np.ndarray] = field(default_factory=list)


def images_of_run(
    run: Run, metadata: ModelMetadata, size: tuple[int, int], *, calibrated: bool, needed_by: str | None
) -> CheckImages:
    """Test images of a run to check on, and training images to calibrate on.

    Args:
        metadata: of its model.
        size: (height, width) to bring them to.
        needed_by: the option that cannot do without, by a DataError where they are not at hand; None: there are none
            then, with a warning.
    """
    masked = metadata.decoder is not None
    try:
        target = images_of(run, metadata)
        check = spread(target.split.test, PHOTOS)
        calibrate = spread(target.split.train, PHOTOS) if calibrated else []
        framing, parts = Framing.of(metadata, size), ("test ", "training ")
        return _read(target.dataset, check, calibrate, framing, masked=masked, parts=parts)
    except SimclrsegError as error:
        if needed_by is not None:
            raise DataError(
                f"{needed_by} is measured on photos, and the run's own are not at hand ({error})",
                "pass --calibrate FOLDER with photos like them",
            ) from error
        figure = "IoU" if masked else "accuracy"
        log.warning(
            f"{figure} not measured, the check runs on generated images: the run's own photos are not at hand ({error})"
        )
        return CheckImages()


def images_of_folder(folder: str, metadata: ModelMetadata, size: tuple[int, int], *, calibrated: bool) -> CheckImages:
    """Images of a dataset or folder, with their masks where these have the model's classes.

    Where some are for calibration they are every second one, so that the check sees others.
    """
    masked = metadata.decoder is not None
    options = DatasetOptions(
        masks=masked,
        border=metadata.border or "pet",
        reach=metadata.reach,
        model_bands=metadata.bands,
    )
    bare = replace(options, masks=False)
    try:
        dataset = open_dataset(folder, options)
    except SimclrsegError as error:
        dataset = open_dataset(folder, bare)
        log.warning(f"the masks of {folder} are left out: {of_files(error)}")
    if dataset.has_masks:
        dataset = in_classes_of(dataset, metadata.classes, metadata.colours)
    if dataset.has_masks and len(dataset.classes) != len(metadata.classes):
        log.warning(
            f"the masks of {folder} are left out: they have {len(dataset.classes)} classes, "
            f"the model has {len(metadata.classes)}"
        )
        dataset = open_dataset(folder, bare)
    indices = [index for index in range(len(dataset)) if dataset.has_mask(index)] or list(range(len(dataset)))
    some = spread(indices, 2 * PHOTOS if calibrated else PHOTOS)
    check, calibrate = (some[1::2], some[::2]) if calibrated else (some, [])
    if calibrated and len(indices) == 1:
        log.warning(f"{folder} holds one photo: int8 is calibrated and checked on the same")
        check = calibrate
    return _read(dataset, check, calibrate, Framing.of(metadata, size), masked=masked, parts=("", ""))


def _read(
    dataset: Dataset,
    check: Sequence[int],
    calibrate: Sequence[int],
    framing: Framing,
    *,
    masked: bool,
    parts: tuple[str, str],
) -> CheckImages:
    images, masks = readable_images(dataset, check, framing)
    calibration, _ = readable_images(dataset, calibrate, framing)
    if not images or (calibrate and not calibration):
        raise DataError(f"{dataset.name}: none of the photos could be read")
    line = f"checked on {len(images)} {parts[0]}photos of {dataset.name}"
    line += ", which have no masks" if masked and not masks else ""
    log.info(line + (f", calibrated on {len(calibration)} {parts[1]}photos" if calibration else ""))
    return CheckImages(images, masks, calibration)
