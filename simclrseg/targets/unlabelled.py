"""Images without labels that a training takes beside its labelled ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from simclrseg.data.datasets.dataset import Dataset, DatasetOptions
from simclrseg.data.datasets.derived import join
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.seen import first_of_each
from simclrseg.data.splits import group_in
from simclrseg.engine.history import EpochRecord, Observer
from simclrseg.errors import DataError
from simclrseg.system import distributed
from simclrseg.targets.base import Target

log = logging.getLogger(__name__)


def open_unlabelled(names: Sequence[str], target: Target[Any, Any]) -> tuple[Dataset, list[int]]:
    """Join the images of a target that its split leaves over and those of other datasets, and choose the usable ones.

    Images of published test lists are left out, and, whatever their names are, those that the target trains, validates
    or tests with, second copies, and with ``group_by`` those of groups that validate or test.

    Returns:
        A dataset and indices in it; DataError if none is left.
    """
    own, split = target.dataset, target.split
    labelled = {*split.train, *split.validation, *split.test}
    unread = DatasetOptions(masks=False)
    parts = [own, *(open_beside(name, own, option="unlabelled", options=unread) for name in names)]

    def choose() -> tuple[list[int], list[str], int]:
        usable = []
        for number, part in enumerate(parts):
            barred = set(part.official.get("test", ())) | (labelled if number == 0 else set())
            usable.append((part, sorted({*range(len(part))} - barred - held_out(part, target))))
        found, twins = first_of_each(usable, (own, sorted(labelled)))
        starts = accumulate(map(len, parts), initial=0)
        chosen = [start + index for start, indices in zip(starts, found, strict=False) for index in indices]
        told = [f"{len(indices):,} of {part.name}" for part, indices in zip(parts, found, strict=True) if indices]
        return chosen, told, twins

    chosen, told, twins = distributed.from_main(choose)
    if not chosen:
        raise DataError(
            f"--unlabelled {', '.join(names)}: every photo there is a labelled or a test photo of {own.name}",
            "name others, or use fewer of the labels with --data-ratio",
            option="unlabelled",
        )
    left_out = f"; {twins:,} that are among the labelled or test photos, or twice there, are left out" if twins else ""
    log.info(f"{len(chosen):,} unlabelled photos: {' + '.join(told)}{left_out}")
    return join(parts), chosen


def open_beside(name: str, own: Dataset, *, option: str, options: DatasetOptions) -> Dataset:
    """Open a dataset that an option names, to be seen as a first one's images; DataError for other bands or values."""
    other = open_dataset(name, replace(options, reach=own.reach, model_bands=own.bands))
    for line in other.summary:
        log.info(line)
    if (other.bands, other.full_scale) != (own.bands, own.full_scale):
        raise DataError(
            f"--{option} {name} has the bands {', '.join(other.bands)} up to {other.full_scale:,}, but "
            f"{own.name} has {', '.join(own.bands)} up to {own.full_scale:,}",
            "leave it out",
            option=option,
            value=name,
        )
    if other.reach != own.reach:
        raise DataError(
            f"--{option} {name} has photos of more than 8 bits and {own.name} has none, so that nothing says "
            "which values are as bright",
            "save them with 8 bits",
            option=option,
            value=name,
        )
    return other


def held_out(dataset: Dataset, target: Target[Any, Any]) -> set[int]:
    """The images of a dataset that ``group_by`` puts into a group of which a target validates or tests with images."""
    pattern, split = target.data.group_by, target.split
    if pattern is None:
        return set()
    held = {group_in(target.dataset.keys[index], pattern) for index in (*split.validation, *split.test)}
    return {index for index, key in enumerate(dataset.keys) if group_in(key, pattern) in held}


class ConfidenceWarning(Observer):
    """Warns, once, when the teacher is sure of nearly everything at first, or of nothing later.

    Args:
        from_epoch: from 1, in which unlabelled images count fully.
    """

    SURE = 0.98
    UNSURE = 0.01

    def __init__(self, *, from_epoch: float) -> None:
        self._from_epoch = from_epoch
        self._warned = False

    def on_epoch(self, record: EpochRecord) -> None:
        share = record.train["confident"]
        if self._warned:
            return
        if record.epoch == 1 and share > self.SURE:
            self._warned = True
            log.warning(
                f"the teacher is sure of {share:.0%} of the unlabelled pixels in the first epoch: it may see one class "
                "everywhere; look at examples.png, and try a lower --learning-rate or more masks"
            )
        elif record.epoch >= self._from_epoch and share < self.UNSURE:
            self._warned = True
            log.warning(
                f"the teacher is sure of {share:.1%} of the unlabelled pixels, so they teach next to nothing; try "
                "more --epochs, or --set consistency.threshold=0.8"
            )
