"""Images without labels that a training takes beside its labelled ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from simclrseg.data.datasets.base import Dataset, DatasetOptions
from simclrseg.data.datasets.derived import join
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.seen import hashes_by_index
from simclrseg.data.splits import group_in
from simclrseg.engine.history import EpochRecord, Plan, StepRecord
from simclrseg.errors import DataError
from simclrseg.system import distributed
from simclrseg.targets.base import Target

log = logging.getLogger(__name__)


def open_unlabelled(names: Sequence[str], target: Target[Any, Any]) -> tuple[Dataset, list[int]]:
    """Join the images of a target that its split leaves over and those of other datasets, and choose the usable ones.

    Images of published test lists are left out, and, whatever their names are, those that the target trains, validates
    or tests with, second copies, and with ``group_by`` those of groups that validate or test.

    Returns:
        A dataset and indices in it.

    Raises:
        DataError: if a dataset has other bands, or none is left.
    """
    own, split = target.dataset, target.split
    labelled = {*split.train, *split.validation, *split.test}
    parts = [own]
    for name in names:
        other = open_dataset(name, DatasetOptions(masks=False, reach=own.reach, model_bands=own.bands))
        for line in other.summary:
            log.info(line)
        if (other.bands, other.full_scale) != (own.bands, own.full_scale):
            raise DataError(
                f"--unlabelled {name} has the bands {', '.join(other.bands)} up to {other.full_scale:,}, but "
                f"{own.name} has {', '.join(own.bands)} up to {own.full_scale:,}",
                "leave it out",
                option="unlabelled",
                value=name,
            )
        if other.reach != own.reach:
            raise DataError(
                f"--unlabelled {name} has photos of more than 8 bits and {own.name} has none, so that nothing says "
                "which values are as bright",
                "save them with 8 bits",
                option="unlabelled",
                value=name,
            )
        parts.append(other)

    def choose() -> tuple[list[int], list[str], int]:
        known = set(hashes_by_index(own, sorted(labelled)).values())
        pattern = target.data.group_by
        held = {group_in(own.keys[index], pattern) for index in (*split.validation, *split.test)} if pattern else set()
        chosen, told, twins, start = list[int](), list[str](), 0, 0
        for number, part in enumerate(parts):
            barred = set(part.official.get("test", ())) | (labelled if number == 0 else set())
            if pattern is not None:
                barred |= {index for index, key in enumerate(part.keys) if group_in(key, pattern) in held}
            count = len(chosen)
            for index, content in hashes_by_index(part, sorted({*range(len(part))} - barred)).items():
                if content not in known:
                    known.add(content)
                    chosen.append(start + index)
                else:
                    twins += 1
            start += len(part)
            told += [f"{len(chosen) - count:,} of {part.name}"] if len(chosen) > count else []
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


class ConfidenceWarning:
    """An observer that warns, once, when the teacher is sure of nearly everything at first, or of nothing later.

    Args:
        from_epoch: from 1, in which unlabelled images count fully.
    """

    SURE = 0.98
    UNSURE = 0.01

    def __init__(self, *, from_epoch: float) -> None:
        self._from_epoch = from_epoch
        self._warned = False

    def on_start(self, plan: Plan) -> None: ...

    def on_step(self, record: StepRecord) -> None: ...

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

    def on_end(self) -> None: ...
