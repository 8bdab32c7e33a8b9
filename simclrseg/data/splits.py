"""Which images train, validate and test: a function of their keys and one seed."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Lt

from simclrseg.errors import DataError

TEST_SHARE = 0.2
VALIDATION_EVERY = 10
FEW_TO_CHOOSE = 20
_ROUNDING = 1e-9
Share = Annotated[float, Gt(0), Lt(1)]
TestSplit = Literal["official", "random"] | Share


@dataclass(frozen=True)
class Split:
    """Indices into a dataset, ascending.

    Attributes:
        development: images that are not test, before ``data_ratio`` or ``max_images`` took its share.
        test_split: where the test images come from; ``random`` also where an official list was asked for and is none,
            and a number where so much of all images was.
        validation_share: of the development images in use, to validate with; None where lists or a tenth do.
        fold: part and number of parts, of a cross-validation.
        group_by: what kept images together.
        groups: how many groups it made of all images, where that is known.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    development: int
    data_ratio: float
    seed: int
    test_split: TestSplit
    fold: tuple[int, int] | None = None
    group_by: str | None = None
    max_images: int | None = None
    groups: int | None = None
    validation_share: float | None = None

    @property
    def can_choose(self) -> bool:
        """Whether the validation images are enough to choose by: of few, the best epoch or threshold is luck."""
        return len(self.validation) >= FEW_TO_CHOOSE

    def doubts(self, choice: str, instead: str) -> list[str]:
        """A line where they are not enough for a choice, on what is done instead."""
        if self.can_choose:
            return []
        parts = (len(self.train) + len(self.validation)) // FEW_TO_CHOOSE
        wider = "a larger --validation" if self.validation_share is not None else f"--fold 1/{parts}"
        more = f", or train with {wider}, which validates on more of them" if parts > 1 else ""
        number = len(self.validation)
        photos = "validation photo is" if number == 1 else "validation photos are"
        few = f"{number} {photos} too few to choose {choice} by, so {instead}"
        return [f"{few}: add photos{more}"]

    @property
    def line(self) -> str:
        """Numbers of images, and of groups where there are any, for the user."""
        train, validation = len(self.train), len(self.validation)
        part = f"{self.data_ratio:g}" if self.max_images is None else f"--max-images {self.max_images}"
        some = f"{part}: {train + validation:,} of " if part != "1" or train + validation != self.development else ""
        return (
            f"{some}{self.development:,} development photos, {train:,} train / {validation:,} validation"
            + (f" (fold {self.fold[0]} of {self.fold[1]})" if self.fold else "")
            + (f"; {self.groups:,} groups stay together" if self.groups is not None else "")
        )


def make_split(
    keys: Sequence[str],
    *,
    official: Mapping[str, Sequence[int]],
    usable: Sequence[int] | None = None,
    test_split: TestSplit = "official",
    seed: int = 0,
    data_ratio: float = 1.0,
    max_images: int | None = None,
    strata: Sequence[int] | None = None,
    validation: float | None = None,
    fold: tuple[int, int] | None = None,
    group_by: str | None = None,
    twins: Sequence[Sequence[int]] = (),
    for_training: bool = True,
) -> Split:
    """Split a dataset.

    Images are put into the order of a hash of seed and key. A random test split is the first fifth, or another share,
    so that the test images of a smaller share are among those of a larger one; of the development images every tenth is
    for validation, unless a list or another share says otherwise. ``data_ratio`` and ``max_images`` take the first part
    of that order, so that the images of a smaller one are among those of a larger one.

    Grouped images follow one another in that order, and every part is made of whole groups.

    Args:
        official: published lists, as in ``Dataset.official``.
        usable: images that may be taken, such as those with a mask; None for all. Never moves an image between
            test and development.
        test_split: by the lists where there are any, at random whatever they say, or so much of all images at random.
        data_ratio: share of the development images to use, above 0 and up to 1.
        max_images: how many of them to use at most, instead of a share; where lists say which of them validate, both
            parts shrink alike.
        strata: class of each image, where parts should hold classes in proportion: the order then takes turns among
            them, and the first development image of each class is for training, but for folds. Groups come before
            classes.
        validation: share of the development images in use to validate with, spread over them in their order; lists of
            training and validation images are then put together.
        fold: (k, n) takes for validation the k-th of n parts of the development images; the test images stay as they
            are, and lists of training and validation images are put together.
        for_training: False where images are only scored: any part may be empty then.
        group_by: a regular expression; images in whose keys it finds the same groups, or text, stay together.
        twins: images that are the same, which stay together where no list says otherwise.

    Raises:
        DataError: if none are left to train or to validate with, or images cannot be kept together.
    """
    taken = set(range(len(keys)) if usable is None else usable)
    groups = _groups(keys, group_by)
    groups = _joined(groups, twins)
    order = sorted(range(len(keys)), key=lambda index: (_rank(seed, groups[index]), _rank(seed, keys[index])))
    if group_by is not None:
        strata = None
    if strata is not None:
        order = _in_turns(order, strata, taken)
    lists = dict(official) if test_split == "official" else {}
    test_share = test_split if isinstance(test_split, float) else TEST_SHARE
    if not isinstance(test_split, float):
        test_split = "official" if "test" in lists else "random"

    validation_list = set(lists.get("validation", ()))
    training_list = set(lists.get("trainval", ())) | set(lists.get("train", ()))
    pool = (training_list or set(range(len(keys))) - set(lists.get("test", ()))) - validation_list
    if "test" in lists:
        test = set(lists["test"])
    else:  # of the training list only where there is one: the validation list stays as it is
        candidates = [index for index in order if index in pool]
        share = max(1, _part(test_share, len(candidates))) if len(candidates) > 2 else 0
        chosen = {groups[index] for index in candidates[:share]}
        test = {index for index in candidates if groups[index] in chosen}
    to_train, to_validate = (pool - test) & taken, validation_list & taken
    if fold is not None or validation is not None:
        to_train, to_validate = to_train | to_validate, set()
    train = [index for index in order if index in to_train]
    held = [index for index in order if index in to_validate]
    if group_by is not None:
        _check_groups(groups, {"train": train, "validation": held, "test": test & taken})

    development = len(train) + len(held)
    ratio = data_ratio if max_images is None else min(1.0, max_images / max(1, development))
    if held:
        train, held = _first(train, ratio), _first(held, ratio)
    else:
        some = _first(train, ratio)
        chosen = _choose_validation(some, groups, strata, fold, validation, grouped=group_by is not None)
        held = [index for index in some if groups[index] in chosen]
        train = [index for index in some if groups[index] not in chosen]
    if for_training and not (train and held):
        number = len({groups[index] for index in taken - test})
        grouped = f" in {number:,} group{'' if number == 1 else 's'}" if group_by else ""
        too_few = group_by is not None and number < 2  # no share helps then
        at = f"at data ratio {data_ratio:g}" if max_images is None else f"and --max-images {max_images}"
        remedies = ["add photos of other groups", "take a --group-by that makes more"] if too_few else ["add photos"]
        if ratio < 1 and not too_few:
            remedies.append(f"raise {'--max-images' if max_images is not None else '--data-ratio'}")
        if test_share > TEST_SHARE:
            remedies.append("lower --test-split")
        if validation is not None and not train and not too_few:
            remedies.append("lower --validation")
        raise DataError(
            f"{development:,} development photos{grouped} {at} leave {len(train)} to train and "
            f"{len(held)} to validate with: {', or '.join(remedies)}"
        )
    return Split(
        train=tuple(sorted(train)),
        validation=tuple(sorted(held)),
        test=tuple(sorted(test & taken)),
        development=development,
        data_ratio=data_ratio,
        seed=seed,
        test_split=test_split,
        fold=fold,
        group_by=group_by,
        max_images=max_images,
        groups=len(set(groups)) if group_by else None,
        validation_share=validation,
    )


def hashed_order(keys: Sequence[str], seed: int) -> list[int]:
    """All indices, in an order in which two images stand alike whichever others there are."""
    return sorted(range(len(keys)), key=lambda index: _rank(seed, keys[index]))


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()


def group_in(key: str, pattern: str) -> str | None:
    """The group that a path tells; None where the pattern finds nothing in it."""
    match = re.search(pattern, key)
    if match is None:
        return None
    return "\t".join(map(str, match.groups())) if match.groups() else match[0]


def _groups(keys: Sequence[str], pattern: str | None) -> list[str]:
    """The group of each image; each is its own where there is no pattern."""
    if pattern is None:
        return list(keys)
    found = [group_in(key, pattern) for key in keys]
    if None in found:
        bare = [key for key, group in zip(keys, found, strict=True) if group is None]
        raise DataError(
            f"--group-by {pattern!r} finds nothing in {len(bare):,} of {len(keys):,} paths, such as {bare[0]}: it "
            "must say the group of every photo",
            option="group_by",
            value=pattern,
        )
    return [group for group in found if group is not None]


def _joined(groups: Sequence[str], twins: Sequence[Sequence[int]]) -> list[str]:
    """The same groups, of which those that share twins are one."""
    joined: dict[str, str] = {}

    def home(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for first, *others in twins:
        for index in others:
            if home(groups[index]) != home(groups[first]):
                joined[home(groups[index])] = home(groups[first])
    return [home(group) for group in groups]


def _choose_validation(
    some: Sequence[int],
    groups: Sequence[str],
    strata: Sequence[int] | None,
    fold: tuple[int, int] | None,
    share: float | None,
    *,
    grouped: bool,
) -> set[str]:
    """The groups that validate where no list says so; ``some`` are the development images in use, in their order."""
    if strata is not None and fold is None:
        return {groups[index] for index in _share_of_each(some, strata, share or 1 / VALIDATION_EVERY)}
    by_class = some if strata is None else sorted(some, key=lambda index: strata[index])
    sizes = Counter(groups[index] for index in by_class)  # every n-th of them holds classes in proportion
    if grouped and fold is None:
        return _last_share(sizes, len(some) * (share or 1 / VALIDATION_EVERY))
    if share is not None:
        return _spread_share(sizes, share)
    return _fold(sizes, *(fold or (min(VALIDATION_EVERY, max(1, len(sizes))), VALIDATION_EVERY)))


def _spread_share(sizes: Mapping[str, int], share: float) -> set[str]:
    """Groups that hold so much of all images, spread over them, one at least; never all.

    Of single images and a share of 1/n that is every n-th one.
    """
    chosen: list[str] = []
    held = passed = 0
    for group, size in sizes.items():
        passed += size
        if held + size <= _part(share, passed):
            held += size
            chosen.append(group)
    return set(chosen or list(sizes)[1:][-1:])


def _fold(sizes: Mapping[str, int], part: int, parts: int) -> set[str]:
    """The groups of one of some parts of about the same size: the largest first, each to the emptiest part.

    Of single images that is every ``parts``-th one.
    """
    totals = [0] * parts
    chosen = set()
    for group in sorted(sizes, key=lambda group: -sizes[group]):  # stable: equal ones stay in their random order
        emptiest = totals.index(min(totals))
        totals[emptiest] += sizes[group]
        if emptiest == part - 1:
            chosen.add(group)
    return chosen


def _last_share(sizes: Mapping[str, int], images: float) -> set[str]:
    """The last groups that hold at least so many images: a tenth of the groups may be a few images only."""
    chosen: set[str] = set()
    held = 0
    for group in reversed(list(sizes)):
        if held >= images - _ROUNDING:
            break
        chosen.add(group)
        held += sizes[group]
    return chosen


def _check_groups(groups: Sequence[str], parts: Mapping[str, Iterable[int]]) -> None:
    """Published lists may tear a group apart."""
    homes: dict[str, str] = {}
    for part, indices in parts.items():
        for index in indices:
            if homes.setdefault(groups[index], part) != part:
                raise DataError(
                    f"the lists put photos of the group {groups[index]!r} into {homes[groups[index]]} and {part}",
                    "pass --test-split random, or leave out --group-by",
                )


def _in_turns(order: list[int], strata: Sequence[int], taken: set[int]) -> list[int]:
    """The same images, so that the first part of them, however long, holds classes in proportion.

    Image r of the n of its class stands at (r + 1/2) / n.
    """
    sizes = Counter(strata[index] for index in order if index in taken)
    seen: Counter[int] = Counter()
    place = {}
    for index in order:
        if index in taken:
            place[index] = (seen[strata[index]] + 0.5) / sizes[strata[index]]
            seen[strata[index]] += 1
    return sorted(order, key=lambda index: place.get(index, 1.0))


def _share_of_each(indices: Sequence[int], strata: Sequence[int], share: float) -> list[int]:
    """So much of each class, never its first image; of classes too small for one image, some give one.

    What is chosen of a list is also chosen of a longer one that begins with it.
    """
    seen: Counter[int] = Counter()
    chosen, spare = [], []
    for index in indices:
        turn = (4 * strata[index] + 3) % 9  # spread over the classes: 3, 7, 2, ...
        ahead = (1 - share) * (8 - turn) / 9
        number = seen[strata[index]]
        if math.floor(share * (number + 1) + ahead + _ROUNDING) > math.floor(share * number + ahead + _ROUNDING):
            chosen.append(index)
        elif number:
            spare.append(index)
        seen[strata[index]] += 1
    return chosen or spare[-1:]


def _part(share: float, count: int) -> int:
    """So many of them; 0.29 of 100 are 29, whatever 0.29 * 100 is in binary."""
    return math.floor(share * count + _ROUNDING)


def _first(indices: list[int], ratio: float) -> list[int]:
    """The first part of a list."""
    return indices[: _part(ratio, len(indices))]
