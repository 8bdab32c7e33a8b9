"""Photos to choose from by what their labels would teach: those of a run, or beside it, that have none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from simclrseg.data.datasets import DATASETS
from simclrseg.data.datasets.dataset import UNLABELLED, Dataset, DatasetOptions
from simclrseg.data.datasets.derived import join
from simclrseg.data.datasets.locate import open_dataset
from simclrseg.data.seen import contents_apart
from simclrseg.errors import UsageError
from simclrseg.evaluation.backbones import Backbone
from simclrseg.targets.base import Target
from simclrseg.targets.unlabelled import held_out, open_beside

log = logging.getLogger(__name__)

UNREAD = DatasetOptions(masks=False)


@dataclass(frozen=True)
class Part:
    """Images of one dataset.

    Attributes:
        name: as a user names it.
        labelled, test: those that have labels to train on, and those that are never chosen.
        choose: False where none of its images is to be chosen.
    """

    name: str
    dataset: Dataset
    labelled: set[int]
    test: set[int]
    choose: bool = True


@dataclass(frozen=True)
class Pool:
    """Images of a dataset: those that may be chosen, and those that are labelled.

    Attributes:
        names: of the datasets that it is joined of, where several have images to choose from.
    """

    dataset: Dataset
    candidates: list[int]
    labelled: list[int]
    names: dict[Dataset, str]


def _masked(dataset: Dataset, name: str) -> set[int]:
    """The images of a dataset, opened without masks, that have masks all the same, whatever these hold.

    They are looked up in the same opened with masks, of which lists without any mask are no part.
    """
    rules = {} if name in DATASETS else {"foreground": None}
    other = open_dataset(name, DatasetOptions(mask_rules=rules, of_model=True, settled=True, reach=dataset.reach))
    known = {other.path(index) or key for index, key in enumerate(other.keys) if other.has_mask(index)}
    return {index for index, key in enumerate(dataset.keys) if (dataset.path(index) or key) in known}


def _test_list(dataset: Dataset) -> set[int]:
    return set(dataset.official.get("test", ()))


def pool_of_backbone(found: Backbone, name: str | None) -> Pool:
    """Images of ``--dataset``, else those that were pretrained on; those with masks are labelled."""
    names = [name] if name is not None else found.data.dataset if found.data else []
    if not names:
        reason = f"{found.path} is a file without its run"
        raise UsageError(reason, "name photos to choose from by --dataset", option="dataset")
    parts = []
    for one in names:
        dataset = open_dataset(one, replace(UNREAD, reach=found.metadata.reach, model_bands=found.metadata.bands))
        for line in dataset.summary:
            log.info(line)
        parts.append(Part(one, dataset, _masked(dataset, one) - _test_list(dataset), _test_list(dataset)))
    return _pooled(parts)


def pool_of_target(target: Target[Any, Any], unlabelled: Sequence[str], name: str | None) -> Pool:
    """Images of ``--dataset``, else those that a training left over and its ``--unlabelled``; never test images.

    Images that a random split would test with if they had labels are test images too. What has got a label since is
    labelled, but not where the training took a share: there the others' labels were left aside on purpose.
    """
    own, split = target.dataset, target.split
    labelled = {*split.train, *split.validation}
    test = {*split.test, *target.make_split(for_training=False, whole=True).test, *held_out(own, target)} - labelled
    if split.data_ratio == 1 and split.max_images is None:
        labelled |= {*target.usable} - test
    parts = [Part(target.data.dataset or own.name, own, labelled, test, choose=name is None)]
    for one in unlabelled if name is None else [name]:
        other = open_beside(one, own, option="unlabelled" if name is None else "dataset", options=UNREAD)
        barred = _test_list(other) | held_out(other, target)
        has = _masked(other, one) if name is not None and target.MASKS else set()
        if name is not None and other.labels is not None and {*other.label_names} <= {*own.label_names}:
            has |= {*np.flatnonzero(other.labels != UNLABELLED).tolist()}  # a folder a class, as a classifier's own
        parts.append(Part(one, other, has - barred, barred))
    return _pooled(parts)


def _pooled(parts: Sequence[Part]) -> Pool:
    """Join the parts; of images that are the same one may be chosen, and none that is the same as a labelled one.

    A test image of one part is one in all; what is left out is counted once, in the parts that are chosen from.
    """
    looked_at = [range(len(part.dataset)) if part.choose else sorted(part.labelled | part.test) for part in parts]
    contents = contents_apart([(part.dataset, indices) for part, indices in zip(parts, looked_at, strict=True)])
    tests = {found[index] for part, found in zip(parts, contents, strict=True) for index in part.test & found.keys()}
    starts = [*accumulate((len(part.dataset) for part in parts), initial=0)]
    labelled: dict[bytes, int] = {}
    for start, part, found in zip(starts, parts, contents, strict=False):
        for index in sorted(part.labelled & found.keys()):
            if found[index] not in tests:
                labelled.setdefault(found[index], start + index)
    candidates: list[int] = []
    seen: set[bytes] = set()
    tested = copies = unopened = 0
    for start, part, found in zip(starts, parts, contents, strict=False):
        if not part.choose:
            continue
        unopened += len(part.dataset) - len(found)
        for index, content in found.items():
            if content in tests and content not in seen:
                tested += 1
            elif content in seen or (content in labelled and index not in part.labelled):
                copies += 1
            elif content not in labelled:
                candidates.append(start + index)
            seen.add(content)
    log.info(f"{len(candidates):,} photos to choose from")
    counts = {
        "are labelled already": len(labelled),
        "are test photos, or would be, and never chosen": tested,
        "are the same as others": copies,
        "cannot be opened": unopened,
    }
    for what, count in counts.items():
        if count:
            log.info(f"{count:,} photos {what}")
    names = {part.dataset: part.name for part in parts if part.choose}
    joint = join([part.dataset for part in parts])
    return Pool(joint, candidates, [*labelled.values()], names if len(names) > 1 else {})


def name_of(pool: Pool, index: int) -> tuple[str, str]:
    """Path of an image, or its key where it has no file; and where there are several to choose from, its dataset."""
    (of, inner), path = pool.dataset.origin(index), pool.dataset.path(index)
    return of.keys[inner] if path is None else str(path), pool.names.get(of, "")
